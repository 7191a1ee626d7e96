//! Reads an id from a source written as `setting` or `setting:claim`.

use pgrx::Uuid;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::ids;
use crate::pg::guc;

/// Returns the id, or `None` if the setting or the claim is empty or missing.
pub fn read(source: &str) -> Result<Option<Uuid>> {
    let (setting, claim) = match source.split_once(':') {
        Some((setting, claim)) => (setting, Some(claim)),
        None => (source, None),
    };
    if setting.is_empty() {
        return Ok(None);
    }
    let value = guc::get(setting)?.unwrap_or_default();
    match claim {
        None => ids::parse(&format_args!("setting \"{setting}\""), &value),
        Some(claim) => {
            ids::parse(&format_args!("claim \"{claim}\" of setting \"{setting}\""), &claimed(setting, &value, claim)?)
        }
    }
}

/// Returns the text of a top-level claim. Returns an empty string if the setting is empty, or the claim is absent or
/// null.
fn claimed(setting: &str, claims: &str, claim: &str) -> Result<String> {
    if claims.is_empty() {
        return Ok(String::new());
    }
    let malformed = |problem: String| Error::MalformedClaims { setting: setting.into(), problem };
    match serde_json::from_str::<Value>(claims) {
        Err(error) => Err(malformed(error.to_string())),
        Ok(Value::Object(mut claims)) => match claims.remove(claim) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(value)) => Ok(value),
            Some(other) => Ok(other.to_string()),
        },
        Ok(_) => Err(malformed("not a JSON object".into())),
    }
}
