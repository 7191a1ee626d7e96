//! Finds the relations that a command locks before PostgreSQL checks the caller's privileges on them. While a request
//! for a strong lock waits, all later requests for the relation wait as well. Relations whose privileges are checked
//! first, such as the table of an ALTER TABLE, are not included.

use std::ffi::c_char;

use pgrx::prelude::*;

use super::relation_name::RelationName;
use crate::pg::lists;

/// Returns the relations that a statement locks before PostgreSQL checks privileges on them.
///
/// # Safety
/// `statement` must come from the parser, belong to this execution only, and outlive the result.
pub unsafe fn locked_first(statement: *mut pg_sys::Node) -> Vec<RelationName> {
    // SAFETY: guaranteed by the caller.
    unsafe { named_in(statement).into_iter().filter_map(|name| RelationName::new(name)).collect() }
}

/// Returns the names of the relations that a statement locks before PostgreSQL checks privileges on them.
///
/// # Safety
/// As for `locked_first`.
unsafe fn named_in(statement: *mut pg_sys::Node) -> Vec<*mut pg_sys::RangeVar> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag determines its type.
    unsafe {
        match (*statement).type_ {
            T_RuleStmt => vec![(*statement.cast::<pg_sys::RuleStmt>()).relation],
            T_CreateTrigStmt => {
                let trigger = statement.cast::<pg_sys::CreateTrigStmt>();
                vec![(*trigger).relation, (*trigger).constrrel]
            }
            T_CreateStmt | T_CreateForeignTableStmt => of_new_table(statement.cast()),
            T_AlterTableStmt => {
                let alter = statement.cast::<pg_sys::AlterTableStmt>();
                lists::nodes::<pg_sys::AlterTableCmd>((*alter).cmds)
                    .flat_map(|command| of_alteration((*alter).relation, command))
                    .collect()
            }
            T_ClusterStmt => {
                let cluster = statement.cast::<pg_sys::ClusterStmt>();
                table_and_index((*cluster).relation, (*cluster).indexname)
            }
            T_CommentStmt => {
                let comment = statement.cast::<pg_sys::CommentStmt>();
                of_object((*comment).objtype, (*comment).object).into_iter().collect()
            }
            T_SecLabelStmt => {
                let label = statement.cast::<pg_sys::SecLabelStmt>();
                of_object((*label).objtype, (*label).object).into_iter().collect()
            }
            T_AlterExtensionContentsStmt => {
                let content = statement.cast::<pg_sys::AlterExtensionContentsStmt>();
                of_object((*content).objtype, (*content).object).into_iter().collect()
            }
            T_CreateStatsStmt => range_vars((*statement.cast::<pg_sys::CreateStatsStmt>()).relations),
            T_CreatePublicationStmt => published((*statement.cast::<pg_sys::CreatePublicationStmt>()).pubobjects),
            T_AlterPublicationStmt => published((*statement.cast::<pg_sys::AlterPublicationStmt>()).pubobjects),
            T_AlterObjectDependsStmt => vec![(*statement.cast::<pg_sys::AlterObjectDependsStmt>()).relation],
            _ => Vec::new(),
        }
    }
}

/// Returns the relations that a new table inherits from or refers to.
///
/// # Safety
/// `table` must be a CREATE TABLE from the parser. A CREATE FOREIGN TABLE begins with one.
unsafe fn of_new_table(table: *mut pg_sys::CreateStmt) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut found = range_vars((*table).inhRelations);
        for element in lists::nodes::<pg_sys::Node>((*table).tableElts) {
            found.extend(referred_to(element));
        }
        for constraint in lists::nodes::<pg_sys::Node>((*table).constraints) {
            found.extend(referred_to(constraint));
        }
        found
    }
}

/// Returns the relations that a part of an ALTER TABLE names. If that is an index, the table itself is included.
///
/// # Safety
/// `command` must be a part of an ALTER TABLE from the parser, and `table` its table.
unsafe fn of_alteration(
    table: *mut pg_sys::RangeVar,
    command: *mut pg_sys::AlterTableCmd,
) -> Vec<*mut pg_sys::RangeVar> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag determines its type.
    unsafe {
        if (*command).subtype == pg_sys::AlterTableType::AT_ClusterOn {
            return table_and_index(table, (*command).name);
        }
        let definition = (*command).def;
        if definition.is_null() {
            return Vec::new();
        }
        match (*definition).type_ {
            T_ReplicaIdentityStmt => table_and_index(table, (*definition.cast::<pg_sys::ReplicaIdentityStmt>()).name),
            T_RangeVar => vec![definition.cast()],
            T_PartitionCmd => vec![(*definition.cast::<pg_sys::PartitionCmd>()).name],
            _ => referred_to(definition),
        }
    }
}

/// Returns a table, and an index that the command names without a schema. PostgreSQL looks the index up in the table's
/// schema, and locks it before it checks that it belongs to the table.
///
/// # Safety
/// Both names must come from the parser or be null.
unsafe fn table_and_index(table: *mut pg_sys::RangeVar, index: *mut c_char) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: guaranteed by the caller. Lookups by OID.
    unsafe {
        let relation = RelationName::new(table).map_or(pg_sys::InvalidOid, |table| table.resolve());
        if relation == pg_sys::InvalidOid || index.is_null() {
            return Vec::new();
        }
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        vec![table, pg_sys::makeRangeVar(schema, index, -1)]
    }
}

/// Returns the tables that the foreign keys of a column or constraint refer to.
///
/// # Safety
/// `node` must come from the parser.
unsafe fn referred_to(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: a node's tag determines its type. A foreign key names a table.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_ColumnDef => {
                lists::nodes::<pg_sys::Node>((*node.cast::<pg_sys::ColumnDef>()).constraints)
                    .flat_map(|constraint| referred_to(constraint))
                    .collect()
            }
            pg_sys::NodeTag::T_Constraint => {
                let constraint = node.cast::<pg_sys::Constraint>();
                let is_key = (*constraint).contype == pg_sys::ConstrType::CONSTR_FOREIGN;
                if is_key { vec![(*constraint).pktable] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }
}

/// Returns the relation that COMMENT, SECURITY LABEL or ALTER EXTENSION names, or to which the named object belongs.
///
/// # Safety
/// `object` must be an object as these commands name it.
unsafe fn of_object(kind: pg_sys::ObjectType::Type, object: *mut pg_sys::Node) -> Option<*mut pg_sys::RangeVar> {
    use pg_sys::ObjectType::*;
    // SAFETY: the caller guarantees a list of names for these kinds of objects. If the object belongs to a relation,
    // the last name is its own.
    unsafe {
        let parts = match kind {
            OBJECT_TABLE | OBJECT_VIEW | OBJECT_MATVIEW | OBJECT_FOREIGN_TABLE | OBJECT_SEQUENCE | OBJECT_INDEX => 0,
            OBJECT_COLUMN | OBJECT_TRIGGER | OBJECT_RULE | OBJECT_POLICY | OBJECT_TABCONSTRAINT => 1,
            _ => return None,
        };
        let names = object.cast::<pg_sys::List>();
        let length = (*names).length - parts;
        (length > 0).then(|| pg_sys::makeRangeVarFromNameList(pg_sys::list_copy_head(names, length)))
    }
}

/// Returns the tables that a publication names.
///
/// # Safety
/// `objects` must be a list of PublicationObjSpec.
unsafe fn published(objects: *mut pg_sys::List) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        lists::nodes::<pg_sys::PublicationObjSpec>(objects)
            .filter(|object| !(**object).pubtable.is_null())
            .map(|object| (*(*object).pubtable).relation)
            .collect()
    }
}

/// Returns the names of relations in a list.
///
/// # Safety
/// `list` must be a list of nodes, of which some may be RangeVar.
unsafe fn range_vars(list: *mut pg_sys::List) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: a node's tag determines its type.
    unsafe {
        lists::nodes::<pg_sys::Node>(list)
            .filter(|node| pgrx::is_a(*node, pg_sys::NodeTag::T_RangeVar))
            .map(|node| node.cast())
            .collect()
    }
}
