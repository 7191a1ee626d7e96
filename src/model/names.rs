//! Names, parsed at the edge: a slug or a name that got past here is sound.

use pgrx::Uuid;

use super::ids;
use crate::error::{Error, Result};

const MAX_SLUG: usize = 63;
const MAX_NAME: usize = 255;

/// What a tenant is called in URLs: `^[a-z]([a-z0-9-]*[a-z0-9])?$`, at most 63, and nothing that reads as a uuid.
#[derive(Clone, Debug)]
pub struct Slug(String);

impl Slug {
    pub fn parse(text: &str) -> Result<Self> {
        let well_formed = text.len() <= MAX_SLUG
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !well_formed {
            return Err(Error::invalid(
                "invalid slug",
                "Use at most 63 of a-z, 0-9 and -, beginning with a letter and ending with a letter or digit.",
            ));
        }
        // tenant_set_current() takes a slug or an id as text.
        if uuid::Uuid::try_parse(text).is_ok() {
            return Err(Error::invalid("invalid slug", "Choose a slug that cannot be read as a uuid."));
        }
        Ok(Slug(text.into()))
    }

    /// Made from a name; `attempt` beyond the first adds a number, later ones digits of the id.
    pub fn from_name(name: &str, id: Uuid, attempt: u32) -> Self {
        let made = slug::slugify(name);
        let base = match made.chars().next() {
            Some(first) if first.is_ascii_lowercase() => made,
            Some(_) => format!("t-{made}"),
            None => "tenant".to_string(),
        };
        let suffix = match attempt {
            0 => String::new(),
            1..20 => format!("-{}", attempt + 1),
            _ => format!("-{}", ids::hex(id)),
        };
        let cut: String = base.chars().take(MAX_SLUG - suffix.len()).collect();
        let made = format!("{}{suffix}", cut.trim_end_matches('-'));
        if uuid::Uuid::try_parse(&made).is_ok() { Slug("tenant".into()) } else { Slug(made) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that people read: anything that is not blank, up to 255 characters.
pub fn tenant_name(text: &str) -> Result<&str> {
    if text.trim().is_empty() {
        return Err(Error::invalid("name must not be empty", "Pass the name that people know the tenant by."));
    }
    if text.chars().count() > MAX_NAME {
        return Err(Error::invalid(
            format!("name is longer than {MAX_NAME} characters"),
            "Keep long descriptions in metadata.",
        ));
    }
    Ok(text)
}

/// The role that owns everything in the tenant's schema.
pub fn owner_role(id: Uuid) -> String {
    format!("fluxbase_tenant_{}", ids::hex(id))
}

/// At most `bytes` of the text, cut between characters.
pub fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}
