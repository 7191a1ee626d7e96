//! What tenant schemas are made of, as the server's own catalogs say. One query, put together from sql/fingerprint/.

use pgrx::datum::DatumWithOid;

use super::Catalog;
use crate::error::{Error, Result};
use crate::pg::{guc, query};

/// What differs between tenants by nature gives way, in the lines of `$source`, to what is the same for all: the schema's
/// name where it qualifies another is left out; else the name ($1), the owner role ($2) and the id ($3) are written as a
/// control character and a letter. Names are matched whole, as the server quotes them and as they are.
macro_rules! neutral {
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

/// The lines that describe a schema: a query. In `thing`, `owner` is whose default privileges an absent acl stands for, and `tells`
/// whether the owner is a fact of its own.
macro_rules! lines {
    () => {
        concat!(
            include_str!("../../sql/fingerprint/base.sql"),
            ", thing (classid, objid, subid, object, parent, definition, owner, tells, acl, acltype) AS MATERIALIZED (\n",
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

/// One thing in a schema. Names of other tenants' schemas, owners and ids do not occur.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Thing {
    /// As in `table notes`, `column notes.body`, `owner of table notes`.
    pub object: String,
    /// The object that it comes and goes with.
    pub parent: String,
    pub definition: String,
}

const SEPARATOR: char = '\u{2}';

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

/// What is called differently in each tenant.
pub struct Names {
    pub schema: String,
    pub owner: String,
    pub id: String,
}

impl Names {
    fn args(&self) -> [DatumWithOid<'_>; 3] {
        [self.schema.as_str().into(), self.owner.as_str().into(), self.id.as_str().into()]
    }

    /// The tenant's own names in place of the neutral ones.
    pub fn put_back(&self, text: &str) -> String {
        text.replace('\u{3}', ".")
            .replace("\u{1}s", &self.schema)
            .replace("\u{1}o", &self.owner)
            .replace("\u{1}t", &self.id)
    }
}

/// Everything in a tenant's schema; nothing where the schema does not exist.
pub fn things(catalog: &Catalog, names: &Names) -> Result<Vec<Thing>> {
    let _settings = settings()?;
    query(catalog.scope(), neutral!(lines!()), &names.args(), |row| row.need(1).map(Thing::parse))
}

/// The same in few bytes: two that are equal stand for the same things. `None` where the schema does not exist.
pub fn hash(catalog: &Catalog, names: &Names) -> Result<Option<String>> {
    let _settings = settings()?;
    let rows = query(
        catalog.scope(),
        concat!(
            "SELECT encode(sha256(convert_to(string_agg(l.line, chr(4) ORDER BY l.line COLLATE \"C\"),
                                             getdatabaseencoding())), 'hex') FROM (",
            neutral!(lines!()),
            ") l"
        ),
        &names.args(),
        |row| Ok(row.get(1)),
    )?;
    rows.into_iter().next().ok_or_else(|| Error::internal("an aggregate returned no row"))
}

/// Things as they read when these names are taken out of them as well. Where a table or an alias has a name that is some
/// tenant's schema's too, that name is taken out of that tenant's things, and so must be of what they are compared with.
pub fn also_neutral(catalog: &Catalog, names: &Names, things: &[Thing]) -> Result<Vec<Thing>> {
    let lines: Vec<String> = things.iter().map(Thing::line).collect();
    let [schema, owner, id] = names.args();
    query(catalog.scope(), neutral!("SELECT unnest($4) AS line"), &[schema, owner, id, lines.into()], |row| {
        row.need(1).map(Thing::parse)
    })
}

/// The query is long and its answer short: one plan for all tenants, along indexes, and no code compiled for it.
fn settings() -> Result<guc::Scope> {
    let scope = guc::Scope::open();
    scope.set(c"plan_cache_mode", "force_generic_plan")?;
    scope.set(c"jit", "off")?;
    Ok(scope)
}
