//! Runs SQL through SPI. The plans of the extension's own statements are kept for the life of the backend.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char};

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::{FromDatum, PgSqlErrorCode};

use super::sql::Command;
use super::{Elevated, Snapshot};
use crate::error::{Error, Result};

/// One row of a result, valid only while the `map` function runs.
pub struct Row {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl Row {
    /// Reads all columns of a tuple.
    ///
    /// # Safety
    /// `descriptor` must describe `tuple`, and both must outlive the row.
    pub(super) unsafe fn of(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> Self {
        // SAFETY: the caller guarantees that the descriptor describes the tuple. Both vectors have room for all of its
        // columns.
        unsafe {
            let columns = (*descriptor).natts as usize;
            let mut row = Row { values: vec![pg_sys::Datum::from(0usize); columns], nulls: vec![true; columns] };
            pg_sys::heap_deform_tuple(tuple, descriptor, row.values.as_mut_ptr(), row.nulls.as_mut_ptr());
            row
        }
    }

    /// Returns the value of a column, or `None` if it is NULL. Columns are numbered from 1.
    pub fn get<T: FromDatum>(&self, column: i32) -> Option<T> {
        let index = usize::try_from(column).ok()?.checked_sub(1)?;
        let (value, is_null) = (self.values.get(index)?, self.nulls.get(index)?);
        // SAFETY: the tuple that holds the value outlives the row, and every FromDatum used here copies.
        unsafe { T::from_datum(*value, *is_null) }
    }

    /// Returns the value of a column that is declared NOT NULL.
    pub fn need<T: FromDatum>(&self, column: i32) -> Result<T> {
        self.get(column).ok_or_else(|| Error::internal(format!("unexpected NULL in column {column}")))
    }
}

thread_local! {
    // Keyed by address and length of the static SQL text: one plan per place in the code.
    static PLANS: RefCell<HashMap<(usize, usize), pg_sys::SPIPlanPtr>> = RefCell::new(HashMap::new());
}

/// Runs one of the extension's own statements, which is planned once per backend, and maps the rows that it returns.
pub fn query<T>(
    scope: &Elevated,
    sql: &'static str,
    args: &[DatumWithOid],
    map: impl FnMut(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    let plan = plan(sql, args)?;
    let (mut values, nulls) = values_and_nulls(args);
    // SAFETY: the plan was prepared for these argument types, and it is kept.
    let code = unsafe { pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), read_only(scope), 0) };
    check(code, sql)?;
    collect(map)
}

/// Reports whether one of the extension's own statements returns a row.
pub fn any_row(scope: &Elevated, sql: &'static str, args: &[DatumWithOid]) -> Result<bool> {
    query(scope, sql, args, |_| Ok(())).map(|rows| !rows.is_empty())
}

/// Runs one of the extension's own statements on what is committed now, at every isolation level, as PostgreSQL's
/// foreign-key checks do.
pub fn execute_on_latest(scope: &Elevated, sql: &'static str, args: &[DatumWithOid]) -> Result<()> {
    let plan = plan(sql, args)?;
    let (mut values, nulls) = values_and_nulls(args);
    let none = std::ptr::null_mut();
    // SAFETY: the plan was prepared for these argument types, and it is kept. SPI registers the snapshot for as long as
    // it needs it.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_ptr());
        let latest = pg_sys::GetLatestSnapshot();
        check(pg_sys::SPI_execute_snapshot(plan, values, nulls, latest, none, read_only(scope), true, 0), sql)
    }
}

/// Runs a query that is assembled at run time, and maps the rows that it returns.
pub fn query_command<T>(scope: &Elevated, query: &Command, map: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    execute_as_is(query.as_str(), read_only(scope))?;
    collect(map)
}

/// Runs one of the extension's own queries with the privileges in force, for callers that have no `Elevated` scope.
pub(super) fn query_as_is<T>(sql: &'static str, map: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    let plan = plan(sql, &[])?;
    // SAFETY: the plan was prepared without arguments, and it is kept.
    let code = unsafe { pg_sys::SPI_execute_plan(plan, std::ptr::null_mut(), std::ptr::null(), true, 0) };
    check(code, sql)?;
    collect(map)
}

/// Runs a command and discards its result.
pub fn execute(_scope: &Elevated, command: &Command) -> Result<()> {
    execute_as_is(command.as_str(), false).map(drop)
}

/// Runs one statement with the privileges in force, for the sandbox. Returns how many rows it returned or changed.
pub(super) fn execute_as_is(sql: &str, read_only: bool) -> Result<u64> {
    let text = c_string(sql)?;
    // SAFETY: a C string. The scope that the caller holds has connected to SPI.
    let code = unsafe { pg_sys::SPI_execute(text.as_ptr(), read_only, 0) };
    check(code, sql)?;
    // SAFETY: a backend-local variable, set by the statement.
    Ok(unsafe { pg_sys::SPI_processed })
}

fn read_only(scope: &Elevated) -> bool {
    scope.snapshot() != Snapshot::Transaction
}

fn plan(sql: &'static str, args: &[DatumWithOid]) -> Result<pg_sys::SPIPlanPtr> {
    let key = (sql.as_ptr() as usize, sql.len());
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).copied()) {
        return Ok(plan);
    }
    let text = c_string(sql)?;
    let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    // SAFETY: a C string, and an array with as many types as its length says. SPI_keepplan moves the plan to memory
    // that lives as long as the backend.
    let plan = unsafe {
        let plan = pg_sys::SPI_prepare(text.as_ptr(), types.len() as i32, types.as_mut_ptr());
        if plan.is_null() {
            return Err(Error::internal(format!("SPI_prepare failed: {sql}")));
        }
        pg_sys::SPI_keepplan(plan);
        plan
    };
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan));
    Ok(plan)
}

fn values_and_nulls(args: &[DatumWithOid]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    args.iter()
        .map(|arg| match arg.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
            None => (pg_sys::Datum::from(0usize), b'n' as c_char),
        })
        .unzip()
}

fn collect<T>(mut map: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    // SAFETY: the result of the statement just run, which this SPI connection owns, or null if it returned no rows.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Ok(Vec::new());
        }
        let descriptor = (*table).tupdesc;
        let rows = (0..(*table).numvals as usize).map(|i| map(&Row::of(*(*table).vals.add(i), descriptor))).collect();
        pg_sys::SPI_freetuptable(table);
        rows
    }
}

/// Turns a result code of SPI into an error. PostgreSQL raises the errors of the statement itself. A negative code
/// means that SPI does not run such a statement.
fn check(code: i32, sql: &str) -> Result<()> {
    match code {
        pg_sys::SPI_ERROR_TRANSACTION => refuse("transaction control is not allowed here"),
        pg_sys::SPI_ERROR_COPY => refuse("COPY to or from the client is not allowed here"),
        code if code < 0 => Err(Error::internal(format!("SPI refused a statement with code {code}: {sql}"))),
        _ => Ok(()),
    }
}

fn refuse(message: &str) -> Result<()> {
    // Raised here instead of returned, because the report must be built while the migration's error context is in
    // force.
    ereport!(ERROR, PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message);
}

fn c_string(sql: &str) -> Result<CString> {
    CString::new(sql).map_err(|_| Error::internal("statement contains a zero byte"))
}
