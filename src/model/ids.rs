//! Ids of tenants, users and assignments: read, made, written.

use std::fmt::Display;

use pgrx::Uuid;

use crate::error::{Error, Result};

/// Empty means none; anything else that is not a uuid is an error that names the place where it was found.
pub fn parse(place: &dyn Display, value: &str) -> Result<Option<Uuid>> {
    if value.is_empty() {
        return Ok(None);
    }
    match from_ascii(value.as_bytes()) {
        Some(id) => Ok(Some(id)),
        None => Err(Error::MalformedUuid { place: place.to_string(), value: value.into() }),
    }
}

pub fn from_ascii(text: &[u8]) -> Option<Uuid> {
    uuid::Uuid::try_parse_ascii(text).ok().map(|id| Uuid::from_bytes(id.into_bytes()))
}

/// A new version 7 id: ids made by one backend sort in the order in which they were made.
pub fn new() -> Uuid {
    Uuid::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// As the server writes it.
pub fn text(id: Uuid) -> String {
    uuid::Uuid::from_bytes(*id.as_bytes()).hyphenated().to_string()
}

/// The tenant whose owner role has this name.
pub fn of_owner_role(name: &str) -> Option<Uuid> {
    let id = name.strip_prefix("fluxbase_tenant_")?.as_bytes();
    let is_simple = id.len() == 32 && id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_simple.then(|| from_ascii(id)).flatten()
}

/// 32 hexadecimal digits, for names of roles and schemas.
pub fn hex(id: Uuid) -> String {
    uuid::Uuid::from_bytes(*id.as_bytes()).simple().to_string()
}
