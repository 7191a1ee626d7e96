//! Properties of timeouts: an interval is converted to whole milliseconds, or refused.

use proptest::prelude::*;

use crate::cases;
use crate::support::properties::of_all;
use crate::support::{Db, expect_refusal};

cases![a_timeout_is_accepted_or_refused];

fn a_timeout_is_accepted_or_refused(db: &Db) {
    let mut admin = db.admin();
    let microseconds =
        prop_oneof![-5000i64..5000, any::<i32>().prop_map(i64::from), any::<i64>().prop_map(|us| us / 4)];
    of_all((0..40i64, -3..3i64, microseconds), 200, |(days, months, microseconds)| {
        // Nothing is pending, so the call waits for nothing.
        let sql = format!(
            "SELECT * FROM tenant_migrate_all(lock_timeout => interval '{months} months {days} days {microseconds} microseconds')"
        );
        let all = i128::from(days + 30 * months) * 86_400_000_000 + i128::from(microseconds);
        if (0..=i128::from(i32::MAX) * 1000).contains(&all) {
            admin.query(&sql, &[]).expect("a timeout");
        } else {
            expect_refusal(admin.query(&sql, &[]), "invalid_argument");
        }
    });
}
