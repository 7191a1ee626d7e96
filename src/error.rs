//! Every failure of the extension, and the one table that maps it to SQLSTATE, DETAIL and HINT.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use serde::Serialize;

pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong, in the words of DESIGN.md section 4.
#[derive(Debug)]
pub enum Error {
    /// A current user is needed and none is set.
    Unauthenticated,
    /// The caller is known and may see the object, but may not do this.
    Forbidden { action: String, hint: String },
    /// A table, function or sequence of a tenant that the caller does not reach; in the server's own words.
    Inaccessible { kind: &'static str, name: String },
    /// Not there, or not the caller's to see: the same words for both.
    NotFound { what: &'static str },
    /// A bad argument.
    Invalid { message: String, hint: String },
    /// The slug is taken.
    SlugTaken { slug: String },
    /// A restored tenant's slug went to another tenant meanwhile.
    SlugReused { slug: String },
    /// The state of things forbids it: tenant limit, last admin, default tenant, wrong status.
    Conflict { message: String, hint: String },
    /// A setting or argument that should hold a uuid holds something else.
    MalformedUuid { place: String, value: String },
    /// A setting that should hold JSON claims holds something else.
    MalformedClaims { setting: String, problem: String },
    /// What commits in transactions of its own was called inside one.
    InTransactionBlock { command: &'static str },
    /// A migration that runs outside a transaction was to be applied inside the caller's.
    OutsideTransaction { version: String, slug: String },
    /// Not one background worker could be started.
    NoWorkers,
    /// The server answered in a way that the extension's own SQL rules out.
    Internal { message: String },
}

/// The JSON in DETAIL, for an HTTP layer that must not parse prose.
#[derive(Serialize)]
struct Detail {
    status: u16,
    code: &'static str,
}

impl Error {
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Invalid { message: message.into(), hint: hint.into() }
    }

    pub fn conflict(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Conflict { message: message.into(), hint: hint.into() }
    }

    pub fn forbidden(action: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Forbidden { action: action.into(), hint: hint.into() }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal { message: message.into() }
    }

    pub fn tenant_not_found() -> Self {
        Error::NotFound { what: "tenant" }
    }

    pub fn null_argument(argument: &str) -> Self {
        Error::invalid(format!("{argument} must not be null"), format!("Pass a value for {argument}."))
    }

    /// The same, and what it is about.
    pub fn at(self, place: &str) -> Self {
        match self {
            Error::Invalid { message, hint } => Error::Invalid { message: format!("{place}: {message}"), hint },
            Error::Conflict { message, hint } => Error::Conflict { message: format!("{place}: {message}"), hint },
            other => other,
        }
    }

    pub fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Error::Unauthenticated => PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            Error::Forbidden { .. } | Error::Inaccessible { .. } => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::NotFound { .. } => PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
            Error::Invalid { .. } => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Error::SlugTaken { .. } | Error::SlugReused { .. } => PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            Error::Conflict { .. } => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::MalformedUuid { .. } | Error::MalformedClaims { .. } => {
                PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION
            }
            Error::InTransactionBlock { .. } | Error::OutsideTransaction { .. } => {
                PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION
            }
            Error::NoWorkers => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Error::Internal { .. } => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        }
    }

    fn detail(&self) -> Option<Detail> {
        let (status, code) = match self {
            Error::Unauthenticated => (401, "unauthenticated"),
            Error::Forbidden { .. } | Error::Inaccessible { .. } => (403, "forbidden"),
            Error::NotFound { .. } => (404, "not_found"),
            Error::Invalid { .. } => (400, "invalid_argument"),
            Error::SlugTaken { .. } | Error::SlugReused { .. } | Error::Conflict { .. } => (409, "conflict"),
            Error::MalformedUuid { .. }
            | Error::MalformedClaims { .. }
            | Error::InTransactionBlock { .. }
            | Error::OutsideTransaction { .. }
            | Error::NoWorkers
            | Error::Internal { .. } => return None,
        };
        Some(Detail { status, code })
    }

    pub fn message(&self) -> String {
        match self {
            Error::Unauthenticated => "no current user".into(),
            Error::Forbidden { action, .. } => format!("permission denied to {action}"),
            Error::Inaccessible { kind, name } => format!("permission denied for {kind} {name}"),
            Error::NotFound { what } => format!("{what} not found"),
            Error::Invalid { message, .. } | Error::Conflict { message, .. } => message.clone(),
            Error::SlugTaken { slug } | Error::SlugReused { slug } => format!("slug \"{slug}\" is taken"),
            Error::MalformedUuid { place, value } => {
                format!("invalid uuid in {place}: \"{value}\"")
            }
            Error::MalformedClaims { setting, problem } => {
                format!("invalid claims in setting \"{setting}\": {problem}")
            }
            Error::InTransactionBlock { command } => format!("{command} cannot run inside a transaction block"),
            Error::OutsideTransaction { version, .. } => {
                format!("migration version \"{version}\" runs outside a transaction")
            }
            Error::NoWorkers => "no background worker could be started".into(),
            Error::Internal { message } => message.clone(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Error::Unauthenticated => {
                "Set fluxbase_tenant.user_id, or the setting that fluxbase_tenant.user_id_setting names, \
                 to the id of the user who calls."
                    .into()
            }
            Error::NotFound { what: "current tenant" } => {
                "Choose one with tenant_set_current(), or pass its id.".into()
            }
            Error::NotFound { what } => format!("Check the id, and that the current user may see the {what}."),
            Error::Inaccessible { .. } => {
                "Its tenant is not within the caller's reach: set the current user to a member of the tenant, and the \
                 current tenant to it or to none."
                    .into()
            }
            Error::SlugTaken { .. } => "Choose another slug, or leave it out to have one made.".into(),
            Error::SlugReused { .. } => "Delete the tenant that has the slug now, then restore this one.".into(),
            Error::Forbidden { hint, .. } | Error::Invalid { hint, .. } | Error::Conflict { hint, .. } => hint.clone(),
            Error::MalformedUuid { .. } => {
                "Write it as 8-4-4-4-12 hexadecimal digits, or leave it empty for none.".into()
            }
            Error::MalformedClaims { .. } => "Set it to a JSON object, or leave it empty for none.".into(),
            Error::InTransactionBlock { .. } => "Call it as a statement of its own, without BEGIN.".into(),
            Error::OutsideTransaction { slug, .. } => {
                format!("Apply it with tenant_migrate_all(tenants => '{{{slug}}}').")
            }
            Error::NoWorkers => "Raise max_worker_processes, or wait until others have ended.".into(),
            Error::Internal { .. } => "Report this as a bug, with the server's log.".into(),
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = ErrorReport::new(error.sqlstate(), error.message(), "").set_hint(error.hint());
        match error.detail().map(|detail| serde_json::to_string(&detail)) {
            Some(Ok(json)) => report.set_detail(json),
            _ => report,
        }
    }
}
