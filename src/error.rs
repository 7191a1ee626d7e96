//! The errors that the extension raises. This is the only place that maps an error to its SQLSTATE, message, DETAIL and
//! HINT.

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use serde::Serialize;

pub type Result<T> = std::result::Result<T, Error>;

/// An error of the extension.
#[derive(Debug)]
pub enum Error {
    /// The function requires a current user, and none is set.
    Unauthenticated,
    /// The caller may see the object, but may not perform the action on it.
    Forbidden { action: String, hint: String },
    /// The caller cannot access the tenant that owns this table, function or sequence. The message is worded as
    /// PostgreSQL's own "permission denied" errors are.
    Inaccessible { kind: &'static str, name: String },
    /// The object does not exist, or the caller may not see it. The message is the same in both cases, so that it does
    /// not reveal which objects exist.
    NotFound { what: &'static str },
    /// An argument has an invalid value.
    Invalid { message: String, hint: String },
    /// Another tenant has the slug.
    SlugTaken { slug: String },
    /// The tenant cannot be restored because another tenant got its slug after it was deleted.
    SlugReused { slug: String },
    /// The current state does not allow the action: for example, the tenant limit is reached, the user is the last
    /// admin, or the tenant is the default one or has the wrong status.
    Conflict { message: String, hint: String },
    /// A setting or argument that must be a uuid is not one.
    MalformedUuid { place: String, value: String },
    /// A setting that must contain claims as a JSON object does not.
    MalformedClaims { setting: String, problem: String },
    /// A command that commits in its own transactions was called inside a transaction block.
    InTransactionBlock { command: &'static str },
    /// A nontransactional migration cannot be applied in the caller's transaction.
    NontransactionalMigration { version: String, slug: String },
    /// No background worker could be started.
    NoWorkers,
    /// The function writes, and the transaction cannot.
    ReadOnly { reason: &'static str },
    /// The extension found a state or a query result that its own code rules out: a bug.
    Internal { message: String },
}

/// The JSON in DETAIL. It gives HTTP layers the status and a stable code, so that they need not parse messages.
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

    /// Prefixes the message with the place that it is about, such as a file name.
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
            Error::InTransactionBlock { .. } | Error::NontransactionalMigration { .. } => {
                PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION
            }
            Error::ReadOnly { .. } => PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
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
            | Error::NontransactionalMigration { .. }
            | Error::ReadOnly { .. }
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
            Error::NontransactionalMigration { version, .. } => {
                format!("nontransactional migration version \"{version}\" cannot run inside a transaction")
            }
            Error::ReadOnly { reason } => format!("cannot change tenants {reason}"),
            Error::NoWorkers => "could not start a background worker".into(),
            Error::Internal { message } => message.clone(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Error::Unauthenticated => {
                "Set fluxbase_tenant.user_id, or the setting that fluxbase_tenant.user_id_setting names, \
                 to the id of the calling user."
                    .into()
            }
            Error::NotFound { what: "current tenant" } => {
                "Choose one with tenant_set_current(), or pass its id.".into()
            }
            Error::NotFound { what: "tenant" } => {
                "Check the id or slug, and that the current user may see the tenant.".into()
            }
            Error::NotFound { what } => format!("Check the id, and that the current user may see the {what}."),
            Error::Inaccessible { .. } => {
                "Its tenant is not accessible to the caller. Set the current user to a member of the tenant, and the \
                 current tenant to that tenant or to none."
                    .into()
            }
            Error::SlugTaken { .. } => "Choose another slug, or omit it to have one made from the name.".into(),
            Error::SlugReused { .. } => "Delete the tenant that now has the slug, then restore this one.".into(),
            Error::Forbidden { hint, .. } | Error::Invalid { hint, .. } | Error::Conflict { hint, .. } => hint.clone(),
            Error::MalformedUuid { .. } => {
                "Write a uuid as 8-4-4-4-12 hexadecimal digits, or leave the value empty for none.".into()
            }
            Error::MalformedClaims { .. } => "Set it to a JSON object, or to an empty string for no claims.".into(),
            Error::InTransactionBlock { .. } => "Call it as a separate statement, outside BEGIN ... COMMIT.".into(),
            Error::NontransactionalMigration { slug, .. } => {
                format!("Apply it with tenant_migrate_all(tenants => '{{{slug}}}').")
            }
            Error::ReadOnly { reason: "during recovery" } => "Connect to the primary server.".into(),
            Error::ReadOnly { .. } => "Call it in a READ WRITE transaction.".into(),
            Error::NoWorkers => "Raise max_worker_processes, or wait until other background workers have ended.".into(),
            Error::Internal { .. } => "This is a bug in fluxbase_tenant. Report it, and attach the server log.".into(),
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
