//! Properties of claims: a uuid is the current user, a missing or empty claim means no user, and anything else is an
//! error.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cases;
use crate::support::properties::of_all;
use crate::support::{Db, expect_error};

cases![a_claim_is_a_user_or_no_user_or_an_error, invalid_json_is_an_error];

fn claims() -> impl Strategy<Value = Value> {
    let id = any::<u128>().prop_map(Uuid::from_u128);
    prop_oneof![
        id.clone().prop_map(|id| json!(id.to_string())),
        id.clone().prop_map(|id| json!(id.to_string().to_uppercase())),
        id.clone().prop_map(|id| json!(id.simple().to_string())),
        // One or more digits missing, or one too many.
        (id.clone(), 1..36usize).prop_map(|(id, digits)| json!(id.to_string()[..digits])),
        id.prop_map(|id| json!(format!("{id}0"))),
        "\\PC{0,20}".prop_map(|text| json!(text)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        Just(Value::Null),
        Just(json!([])),
        Just(json!({"sub": "x"})),
    ]
}

fn a_claim_is_a_user_or_no_user_or_an_error(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    let mut client = db.user_role();
    of_all((claims(), any::<bool>()), 300, |(claim, is_present)| {
        let mut all = json!({"aud": "x", "nested": {"sub": 1}});
        if is_present {
            all["sub"] = claim.clone();
        }
        let set = "SELECT set_config('request.jwt.claims', $1, false)";
        client.query_one(set, &[&all.to_string()]).expect("a setting");
        let read = client.query_one("SELECT tenant_current_user_id()", &[]);
        let no_user = !is_present || claim.is_null() || claim == json!("");
        match claim.as_str().map(Uuid::try_parse) {
            _ if no_user => assert_eq!(read.expect("no user").get::<_, Option<Uuid>>(0), None),
            Some(Ok(id)) => assert_eq!(read.expect("a user").get::<_, Option<Uuid>>(0), Some(id)),
            _ => drop(expect_error(read, "22P02")),
        }
    });
}

fn invalid_json_is_an_error(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    let mut client = db.user_role();
    of_all("\\PC{1,30}", 200, |text: String| {
        let set = "SELECT set_config('request.jwt.claims', $1, false)";
        client.query_one(set, &[&text]).expect("a setting");
        let read = client.query_one("SELECT tenant_current_user_id()", &[]);
        match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(claims)) if !claims.contains_key("sub") => {
                assert_eq!(read.expect("no user").get::<_, Option<Uuid>>(0), None);
            }
            _ => drop(expect_error(read, "22P02")),
        }
    });
}
