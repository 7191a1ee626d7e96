//! Relations that EXPLAIN ANALYZE creates.

use postgres::types::private::BytesMut;
use postgres::types::{IsNull, Kind, ToSql, Type};

use crate::cases;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![relations_created_by_explain];

/// No event trigger fires for EXPLAIN ANALYZE, and the type of a parameter can be given as an OID.
fn relations_created_by_explain(db: &Db) {
    let scene = Scene::set(db);
    let mut thief = scene.thief();
    let oid: u32 = one(&mut db.superuser(), "SELECT 'tenant_victim.notes'::regtype::oid", &[]);
    let row = Type::new("notes".into(), oid, Kind::Simple, "tenant_victim".into());
    for relation in ["TABLE lair.x", "TEMP TABLE x", "UNLOGGED TABLE lair.x"] {
        let create = format!("EXPLAIN ANALYZE CREATE {relation} AS SELECT $1 AS c");
        let created = thief
            .prepare_typed(&create, std::slice::from_ref(&row))
            .and_then(|prepared| thief.query(&prepared, &[&Null]));
        expect_error(created, "42501");
        let plain = format!("EXPLAIN ANALYZE CREATE {relation} AS SELECT 1 AS c");
        expect_error(thief.batch_execute(&plain), "42501");
        run(&mut thief, &plain.replace("ANALYZE ", ""));
    }
    run(&mut db.superuser(), "EXPLAIN ANALYZE CREATE TABLE kept AS SELECT 1 AS c; SELECT c FROM kept");
    // The victim's migrations can change the table.
    db.migrate(scene.victim, "ALTER TABLE notes ALTER body TYPE varchar");
}

/// NULL, as a value of any type.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(&self, _: &Type, _: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    postgres::types::to_sql_checked!();
}
