//! Parses, generates and formats the ids of tenants, users and memberships.

use std::fmt::Display;

use pgrx::Uuid;

use crate::error::{Error, Result};

/// Parses an id. Returns `None` for an empty string. Raises an error that names `place`, where the value was found, if
/// it is not a uuid.
pub fn parse(place: &dyn Display, value: &str) -> Result<Option<Uuid>> {
    if value.is_empty() {
        return Ok(None);
    }
    match from_ascii(value.as_bytes()) {
        Some(id) => Ok(Some(id)),
        None => Err(Error::MalformedUuid { place: place.to_string(), value: value.into() }),
    }
}

/// Parses an id. Returns `None` for anything that is not a uuid.
pub fn from_ascii(text: &[u8]) -> Option<Uuid> {
    uuid::Uuid::try_parse_ascii(text).ok().map(|id| Uuid::from_bytes(id.into_bytes()))
}

/// Returns a new id of version 7. Ids that one backend generates sort in the order in which it generated them.
pub fn new() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// Formats the id as PostgreSQL does, with hyphens.
pub fn text(id: Uuid) -> String {
    uuid::Uuid::from_bytes(*id.as_bytes()).hyphenated().to_string()
}

/// Returns the id of the tenant whose owner role has this name, or `None` for any other role's name.
pub fn of_owner_role(name: &str) -> Option<Uuid> {
    let id = name.strip_prefix("fluxbase_tenant_")?.as_bytes();
    let is_simple = id.len() == 32 && id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_simple.then(|| from_ascii(id)).flatten()
}

/// Formats the id as 32 hexadecimal digits, for names of roles and schemas.
pub fn hex(id: Uuid) -> String {
    uuid::Uuid::from_bytes(*id.as_bytes()).simple().to_string()
}
