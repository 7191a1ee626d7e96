//! Validates slugs and names where they enter the extension, so that the rest of the code can rely on them.

use pgrx::Uuid;

use super::ids;
use crate::error::{Error, Result};

const MAX_SLUG: usize = 63;
const MAX_NAME: usize = 255;

/// The name of a tenant in URLs. It matches `^[a-z]([a-z0-9-]*[a-z0-9])?$`, has at most 63 characters, and is not a
/// valid uuid.
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
                "Use at most 63 characters of a-z, 0-9 and -, beginning with a letter and ending with a letter or digit.",
            ));
        }
        // tenant_set_current() accepts a slug or an id as text, so a slug must not be a valid id.
        if uuid::Uuid::try_parse(text).is_ok() {
            return Err(Error::invalid("invalid slug", "Choose a slug that is not a valid uuid."));
        }
        Ok(Slug(text.into()))
    }

    /// Returns a slug made from a name. The caller tries increasing values of `attempt`, from 0, until the slug is
    /// free: attempts 1 to 19 append a number, and later attempts append the tenant's id.
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

/// Validates a tenant's display name: any text that is not blank, of at most 255 characters.
pub fn tenant_name(text: &str) -> Result<&str> {
    if text.trim().is_empty() {
        return Err(Error::invalid(
            "name must not be empty",
            "Pass a name that contains a character other than white space.",
        ));
    }
    if text.chars().count() > MAX_NAME {
        return Err(Error::invalid(
            format!("name is longer than {MAX_NAME} characters"),
            "Keep long descriptions in metadata.",
        ));
    }
    Ok(text)
}

/// Returns the name of the tenant's owner role, which owns the tenant schema and everything in it.
pub fn owner_role(id: Uuid) -> String {
    format!("fluxbase_tenant_{}", ids::hex(id))
}

/// Truncates the text to at most `bytes` bytes, at a character boundary.
pub fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}
