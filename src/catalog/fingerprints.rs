//! Describes the contents of tenant schemas, for `drift`. The description comes from the system catalogs by one query,
//! which is assembled from the files in sql/fingerprint/.

use pgrx::datum::DatumWithOid;

use super::Catalog;
use crate::error::{Error, Result};
use crate::pg::{guc, query};

/// Normalizes the lines of `$source`, so that those of different tenants can be compared. The tenant's schema name is
/// removed where it qualifies another name. Elsewhere, the schema name ($1), the owner role ($2) and the id ($3) are
/// replaced by a control character and a letter. The schema name is matched as a whole word, both quoted as PostgreSQL
/// quotes it and unquoted.
macro_rules! normalized {
    ($($source:tt)*) => {
        concat!(
            r#"SELECT CASE WHEN strpos(b.line, $1) = 0 THEN b.line ELSE regexp_replace(b.line, name.bare, chr(1) || 's', 'g') END AS line
            FROM (
                SELECT $1::text AS raw, quote_ident($1) AS quoted,
                       CASE WHEN quote_ident($1) = $1 THEN '(?<![\w$])' ELSE '' END || quoted.pattern || '\.' AS qualifier,
                       '(?<!\w)(?:' || quoted.pattern || '|' || raw.pattern || ')(?!\w)' AS bare
                FROM regexp_replace(quote_ident($1), '([][\\.^$*+?(){}|])', '\\\1', 'g') quoted (pattern),
                     regexp_replace($1, '([][\\.^$*+?(){}|])', '\\\1', 'g') raw (pattern)
            ) name, ("#,
            $($source)*,
            r#") raw,
            LATERAL (SELECT CASE WHEN strpos(raw.line, name.quoted) = 0 THEN raw.line
                                 ELSE regexp_replace(raw.line, name.qualifier, '', 'g') END) a (line),
            LATERAL (SELECT replace(replace(a.line, $2, chr(1) || 'o'), $3, chr(1) || 't')) b (line)"#
        )
    };
}

/// The query that returns the lines that describe a schema. In its CTE `thing`, `owner` is the role whose default
/// privileges apply if the ACL is null, and `has_own_owner` reports whether the owner gets a line of its own.
macro_rules! lines {
    () => {
        concat!(
            include_str!("../../sql/fingerprint/base.sql"),
            ", thing (classid, objid, subid, object, parent, definition, owner, has_own_owner, acl, acltype) AS MATERIALIZED (\n",
            include_str!("../../sql/fingerprint/schema.sql"),
            "UNION ALL\n",
            include_str!("../../sql/fingerprint/relations.sql"),
            "UNION ALL\n",
            include_str!("../../sql/fingerprint/parts.sql"),
            "UNION ALL\n",
            include_str!("../../sql/fingerprint/functions.sql"),
            "UNION ALL\n",
            include_str!("../../sql/fingerprint/types.sql"),
            "UNION ALL\n",
            include_str!("../../sql/fingerprint/rare.sql"),
            "),\n",
            include_str!("../../sql/fingerprint/facts.sql"),
        )
    };
}

/// One line of a description: an object of the schema, or a property such as an object's owner. It is normalized, so it
/// does not contain the tenant's schema name, owner role or id.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Thing {
    /// For example `table notes`, `column notes.body` or `owner of table notes`.
    pub object: String,
    /// The object with which this one is created and dropped.
    pub parent: String,
    pub definition: String,
}

const SEPARATOR: char = '\u{2}';
const SCHEMA_PLACEHOLDER: &str = "\u{1}s";

impl Thing {
    fn parse(line: String) -> Self {
        let mut parts = line.splitn(3, SEPARATOR).map(str::to_string);
        let mut next = || parts.next().unwrap_or_default();
        Thing { object: next(), parent: next(), definition: next() }
    }

    fn line(&self) -> String {
        format!("{}{SEPARATOR}{}{SEPARATOR}{}", self.object, self.parent, self.definition)
    }
}

/// The names that differ between tenants.
pub struct Names {
    pub schema: String,
    pub owner: String,
    pub id: String,
}

impl Names {
    fn args(&self) -> [DatumWithOid<'_>; 3] {
        [self.schema.as_str().into(), self.owner.as_str().into(), self.id.as_str().into()]
    }

    /// Reports whether a normalized text contains the schema's name other than as a qualifier.
    pub fn has_schema(text: &str) -> bool {
        text.contains(SCHEMA_PLACEHOLDER)
    }

    /// Replaces the placeholders of the schema that are part of a longer word by the schema's name.
    fn put_back_in_words(&self, text: &str) -> String {
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut parts = text.split(SCHEMA_PLACEHOLDER);
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let is_in_word = whole.ends_with(is_of_word) || part.starts_with(is_of_word);
            whole.push_str(if is_in_word { &self.schema } else { SCHEMA_PLACEHOLDER });
            whole.push_str(part);
        }
        whole
    }

    /// Undoes the normalization: replaces the placeholders with the tenant's names.
    pub fn put_back(&self, text: &str) -> String {
        text.replace('\u{3}', ".")
            .replace(SCHEMA_PLACEHOLDER, &self.schema)
            .replace("\u{1}o", &self.owner)
            .replace("\u{1}t", &self.id)
    }
}

/// Returns the description of a tenant's schema. It is empty if the schema does not exist.
pub fn things(catalog: &Catalog, names: &Names) -> Result<Vec<Thing>> {
    let _settings = settings()?;
    query(catalog.scope(), normalized!(lines!()), &names.args(), |row| row.need(1).map(Thing::parse))
}

/// Returns the description of a scratch schema. Its name is unique, so it is replaced in longer words too, such as the
/// names of indexes that a migration makes from it.
pub fn things_of_scratch(catalog: &Catalog, names: &Names) -> Result<Vec<Thing>> {
    let things = things(catalog, names)?;
    Ok(things.into_iter().map(|thing| Thing::parse(thing.line().replace(&names.schema, SCHEMA_PLACEHOLDER))).collect())
}

/// Returns a hash of the description of a tenant's schema, or `None` if the schema does not exist.
pub fn hash(catalog: &Catalog, names: &Names) -> Result<Option<String>> {
    let _settings = settings()?;
    let rows = query(
        catalog.scope(),
        concat!(
            "SELECT encode(sha256(convert_to(string_agg(l.line, chr(4) ORDER BY l.line COLLATE \"C\"),
                                             getdatabaseencoding())), 'hex') FROM (",
            normalized!(lines!()),
            ") l"
        ),
        &names.args(),
        |row| Ok(row.get(1)),
    )?;
    rows.into_iter().next().ok_or_else(|| Error::internal("aggregate returned no row"))
}

/// Normalizes a description of another tenant's schema with this tenant's names, too. A table or an alias may happen to
/// have the name of this tenant's schema. The normalization of this tenant's description replaces that name, so it must
/// be replaced in the description it is compared with as well.
pub fn normalize_with(catalog: &Catalog, names: &Names, things: &[Thing]) -> Result<Vec<Thing>> {
    let lines: Vec<String> = things.iter().map(|thing| names.put_back_in_words(&thing.line())).collect();
    let [schema, owner, id] = names.args();
    query(catalog.scope(), normalized!("SELECT unnest($4) AS line"), &[schema, owner, id, lines.into()], |row| {
        row.need(1).map(Thing::parse)
    })
}

/// Sets planner settings for the description query. Planning it takes long, so one generic plan, which uses indexes,
/// serves all tenants. Its result is small, so JIT compilation would cost more than it saves.
fn settings() -> Result<guc::Scope> {
    let scope = guc::Scope::open();
    scope.set(c"plan_cache_mode", "force_generic_plan")?;
    scope.set(c"jit", "off")?;
    Ok(scope)
}
