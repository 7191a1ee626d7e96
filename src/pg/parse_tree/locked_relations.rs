//! The relations that a command locks by name before the server asks whether the caller may: a request for a strong lock that
//! waits makes everybody wait behind it. What checks first, as ALTER TABLE does with its own table, is not among them.

use std::ffi::c_char;

use pgrx::prelude::*;

use super::relation_name::RelationName;
use crate::pg::lists;

/// # Safety
/// A statement made by the parser, which outlives the answer and is this execution's own.
pub unsafe fn locked_first(statement: *mut pg_sys::Node) -> Vec<RelationName> {
    // SAFETY: by the caller's promise.
    unsafe { named_in(statement).into_iter().filter_map(|name| RelationName::new(name)).collect() }
}

/// # Safety
/// As above.
unsafe fn named_in(statement: *mut pg_sys::Node) -> Vec<*mut pg_sys::RangeVar> {
    use pg_sys::NodeTag::*;
    // SAFETY: the tag tells the node's type.
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
                index_beside((*cluster).relation, (*cluster).indexname)
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

/// # Safety
/// A CREATE TABLE made by the parser; a foreign table's begins with one.
unsafe fn of_new_table(table: *mut pg_sys::CreateStmt) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: by the caller's promise.
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

/// # Safety
/// A part of an ALTER TABLE made by the parser, and the table that it is about.
unsafe fn of_alteration(
    table: *mut pg_sys::RangeVar,
    command: *mut pg_sys::AlterTableCmd,
) -> Vec<*mut pg_sys::RangeVar> {
    use pg_sys::NodeTag::*;
    // SAFETY: the tag tells the node's type.
    unsafe {
        if (*command).subtype == pg_sys::AlterTableType::AT_ClusterOn {
            return index_beside(table, (*command).name);
        }
        let definition = (*command).def;
        if definition.is_null() {
            return Vec::new();
        }
        match (*definition).type_ {
            T_ReplicaIdentityStmt => index_beside(table, (*definition.cast::<pg_sys::ReplicaIdentityStmt>()).name),
            T_RangeVar => vec![definition.cast()],
            T_PartitionCmd => vec![(*definition.cast::<pg_sys::PartitionCmd>()).name],
            _ => referred_to(definition),
        }
    }
}

/// A table and an index that a command names without a schema: it is looked for in the table's, and whose it is asked afterwards.
///
/// # Safety
/// Names made by the parser, or null.
unsafe fn index_beside(table: *mut pg_sys::RangeVar, index: *mut c_char) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: by the caller's promise; lookups by oid.
    unsafe {
        let relation = RelationName::new(table).map_or(pg_sys::InvalidOid, |table| table.resolve());
        if relation == pg_sys::InvalidOid || index.is_null() {
            return Vec::new();
        }
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        vec![table, pg_sys::makeRangeVar(schema, index, -1)]
    }
}

/// What foreign keys refer to, of a column or a constraint.
///
/// # Safety
/// A node made by the parser.
unsafe fn referred_to(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: the tag tells the node's type; a foreign key names a table.
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

/// The relation that COMMENT and SECURITY LABEL name, or that what they name is a part of.
///
/// # Safety
/// An object as these commands name it.
unsafe fn of_object(kind: pg_sys::ObjectType::Type, object: *mut pg_sys::Node) -> Option<*mut pg_sys::RangeVar> {
    use pg_sys::ObjectType::*;
    // SAFETY: by the caller's promise these hold a list of names, the last of which is a part's own.
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

/// # Safety
/// A list of PublicationObjSpec, of which those for tables name one.
unsafe fn published(objects: *mut pg_sys::List) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: by the caller's promise.
    unsafe {
        lists::nodes::<pg_sys::PublicationObjSpec>(objects)
            .filter(|object| !(**object).pubtable.is_null())
            .map(|object| (*(*object).pubtable).relation)
            .collect()
    }
}

/// # Safety
/// A list of nodes, some of which may be RangeVar.
unsafe fn range_vars(list: *mut pg_sys::List) -> Vec<*mut pg_sys::RangeVar> {
    // SAFETY: the tag tells the node's type.
    unsafe {
        lists::nodes::<pg_sys::Node>(list)
            .filter(|node| pgrx::is_a(*node, pg_sys::NodeTag::T_RangeVar))
            .map(|node| node.cast())
            .collect()
    }
}
