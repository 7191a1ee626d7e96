//! The job queue, a segment of dynamic shared memory: the leader passes the tenants, the options and the stop flag to
//! its workers, and the workers report their progress.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Result};
use crate::pg::locks::ObjectLock;

/// What the workers do to each tenant.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    Migrate,
    /// Permanently deletes tenants that were soft-deleted at `deleted_until` or earlier.
    Purge,
}

/// Maximum size in bytes of the error message that is kept for the leader.
const ERROR_SIZE: usize = 500;

/// The part of the segment with a fixed size. The tenants' ids and the target's text follow it.
#[repr(C)]
struct Header {
    task: Task,
    deleted_until: i64,
    database: pg_sys::Oid,
    run: [u8; 16],
    user: [u8; 16],
    has_user: bool,
    role: pg_sys::Oid,
    workers: i32,
    lock_timeout_ms: i32,
    retries: i32,
    stop_on_error: bool,
    dry_run: bool,
    has_target: bool,
    target_len: u32,
    total: u32,
    next: AtomicU32,
    done: AtomicU32,
    failed: AtomicU32,
    running: AtomicI32,
    /// The number of workers that have started.
    started: AtomicU32,
    /// One bit for each worker that has acquired its lock. The bit stays set after the worker has ended.
    has_locked: AtomicU64,
    run_is_recorded: AtomicBool,
    stop: AtomicBool,
    error_is_recorded: AtomicBool,
    error_len: AtomicU32,
    error: UnsafeCell<[u8; ERROR_SIZE]>,
}

/// The work of one leader: which tenants to visit, and how.
pub struct Plan<'a> {
    pub task: Task,
    /// In microseconds, as a TimestampTz.
    pub deleted_until: i64,
    pub database: pg_sys::Oid,
    pub run: Uuid,
    pub user: Option<Uuid>,
    pub role: pg_sys::Oid,
    pub workers: i32,
    pub lock_timeout_ms: i32,
    pub retries: i32,
    pub stop_on_error: bool,
    pub dry_run: bool,
    /// The version only. Each worker looks up its sort key.
    pub target: Option<&'a str>,
    pub tenants: &'a [Uuid],
}

/// The mapped segment. When the leader drops it, the workers are told to stop.
pub struct JobQueue {
    segment: *mut pg_sys::dsm_segment,
    header: *const Header,
    is_leader: bool,
}

impl JobQueue {
    /// Creates the segment. The caller becomes the leader.
    pub fn create(plan: &Plan) -> Result<Self> {
        let target = plan.target.unwrap_or_default().as_bytes();
        let size = size_of::<Header>() + plan.tenants.len() * 16 + target.len();
        // SAFETY: a new segment of the requested size, page-aligned. All of it is written before any worker can know
        // its handle. on_dsm_detach() stops the workers for whatever reason this backend ends.
        unsafe {
            let segment = pg_sys::dsm_create(size, 0);
            let header = pg_sys::dsm_segment_address(segment).cast::<Header>();
            header.write(Header {
                task: plan.task,
                deleted_until: plan.deleted_until,
                database: plan.database,
                run: *plan.run.as_bytes(),
                user: plan.user.map(|user| *user.as_bytes()).unwrap_or_default(),
                has_user: plan.user.is_some(),
                role: plan.role,
                workers: plan.workers,
                lock_timeout_ms: plan.lock_timeout_ms,
                retries: plan.retries,
                stop_on_error: plan.stop_on_error,
                dry_run: plan.dry_run,
                has_target: plan.target.is_some(),
                target_len: target.len() as u32,
                total: plan.tenants.len() as u32,
                next: AtomicU32::new(0),
                done: AtomicU32::new(0),
                failed: AtomicU32::new(0),
                running: AtomicI32::new(0),
                started: AtomicU32::new(0),
                has_locked: AtomicU64::new(0),
                run_is_recorded: AtomicBool::new(false),
                stop: AtomicBool::new(false),
                error_is_recorded: AtomicBool::new(false),
                error_len: AtomicU32::new(0),
                error: UnsafeCell::new([0; ERROR_SIZE]),
            });
            let ids = header.add(1).cast::<[u8; 16]>();
            for (i, id) in plan.tenants.iter().enumerate() {
                ids.add(i).write(*id.as_bytes());
            }
            let text = ids.add(plan.tenants.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(target.as_ptr(), text, target.len());
            pg_sys::on_dsm_detach(segment, Some(stop_workers), pg_sys::Datum::from(0usize));
            Ok(JobQueue { segment, header, is_leader: true })
        }
    }

    /// Maps the leader's segment in a worker.
    pub fn attach(handle: pg_sys::dsm_handle) -> Result<Self> {
        // SAFETY: dsm_attach() returns null if the segment no longer exists. The leader wrote the header before it
        // passed on the handle.
        unsafe {
            let segment = pg_sys::dsm_attach(handle);
            if segment.is_null() {
                return Err(Error::internal("leader of the run has ended"));
            }
            // The mapping must outlive the worker's transactions.
            pg_sys::dsm_pin_mapping(segment);
            Ok(JobQueue { segment, header: pg_sys::dsm_segment_address(segment).cast(), is_leader: false })
        }
    }

    pub fn handle(&self) -> pg_sys::dsm_handle {
        // SAFETY: a mapped segment.
        unsafe { pg_sys::dsm_segment_handle(self.segment) }
    }

    fn header(&self) -> &Header {
        // SAFETY: the segment is mapped as long as self lives. Fields that change after the leader wrote them are
        // atomic, except `error`, whose access `error_is_recorded` and `error_len` order.
        unsafe { &*self.header }
    }

    pub fn plan_without_tenants(&self) -> Plan<'_> {
        let header = self.header();
        Plan {
            task: header.task,
            deleted_until: header.deleted_until,
            database: header.database,
            run: Uuid::from_bytes(header.run),
            user: header.has_user.then(|| Uuid::from_bytes(header.user)),
            role: header.role,
            workers: header.workers,
            lock_timeout_ms: header.lock_timeout_ms,
            retries: header.retries,
            stop_on_error: header.stop_on_error,
            dry_run: header.dry_run,
            target: header.has_target.then(|| self.target()),
            tenants: &[],
        }
    }

    fn target(&self) -> &str {
        let header = self.header();
        // SAFETY: the leader wrote `target_len` bytes of UTF-8 after the ids.
        unsafe {
            let text = self.header.add(1).cast::<[u8; 16]>().add(header.total as usize).cast::<u8>();
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(text, header.target_len as usize))
        }
    }

    pub fn total(&self) -> u32 {
        self.header().total
    }

    /// Returns the next tenant that no worker has visited yet, or `None` if there is none or the workers are to stop.
    pub fn next_tenant(&self) -> Option<Uuid> {
        let header = self.header();
        if header.stop.load(Ordering::Acquire) {
            return None;
        }
        let index = header.next.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the leader wrote `total` ids after the header.
        (index < header.total)
            .then(|| unsafe { Uuid::from_bytes(self.header.add(1).cast::<[u8; 16]>().add(index as usize).read()) })
    }

    /// Counts a finished visit.
    pub fn count(&self, failed: bool) {
        let header = self.header();
        header.done.fetch_add(1, Ordering::AcqRel);
        if failed {
            header.failed.fetch_add(1, Ordering::AcqRel);
            if header.stop_on_error {
                self.stop();
            }
        }
    }

    /// Returns the number of finished visits, and how many of them failed.
    pub fn counts(&self) -> (u32, u32) {
        (self.header().done.load(Ordering::Acquire), self.header().failed.load(Ordering::Acquire))
    }

    /// Keeps the first error of all workers, truncated to `ERROR_SIZE`.
    pub fn record_error(&self, error: &str) {
        let header = self.header();
        if header.error_is_recorded.swap(true, Ordering::AcqRel) {
            return;
        }
        let len = (0..=error.len().min(ERROR_SIZE)).rev().find(|&end| error.is_char_boundary(end)).unwrap_or(0);
        // SAFETY: only the worker that set the flag writes the buffer, and others read no more than `error_len` bytes,
        // which is still 0.
        unsafe { std::ptr::copy_nonoverlapping(error.as_ptr(), header.error.get().cast::<u8>(), len) };
        header.error_len.store(len as u32, Ordering::Release);
    }

    pub fn first_error(&self) -> String {
        let len = self.header().error_len.load(Ordering::Acquire) as usize;
        // SAFETY: the length is stored after the buffer was written for the first and only time.
        let bytes = unsafe { std::slice::from_raw_parts(self.header().error.get().cast::<u8>(), len) };
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub fn stop(&self) {
        self.header().stop.store(true, Ordering::Release);
    }

    pub fn is_stopped(&self) -> bool {
        self.header().stop.load(Ordering::Acquire)
    }

    /// Assigns the calling worker its number, from 0. It is less than 64, because the leader starts at most 64 workers.
    pub fn assign_number(&self) -> u32 {
        self.header().started.fetch_add(1, Ordering::AcqRel)
    }

    /// Returns the lock that a worker holds as long as it lives, and that its leader waits for.
    pub fn worker_lock(&self, number: u32) -> Result<ObjectLock> {
        ObjectLock::of_worker(self.handle(), number)
    }

    pub fn mark_locked(&self, number: u32) {
        self.header().has_locked.fetch_or(1 << number, Ordering::AcqRel);
    }

    /// Returns one bit for each worker whose lock the leader can wait for.
    pub fn has_locked(&self) -> u64 {
        self.header().has_locked.load(Ordering::Acquire)
    }

    /// Counts the calling worker in. Returns true if no other worker is at work: it then records the run, unless
    /// that is done.
    pub fn begin_work(&self) -> bool {
        self.header().running.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Counts the calling worker out. Returns true if no other worker is at work: it then records the end of the run.
    pub fn end_work(&self) -> bool {
        self.header().running.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub fn mark_run_recorded(&self) {
        self.header().run_is_recorded.store(true, Ordering::Release);
    }

    pub fn is_run_recorded(&self) -> bool {
        self.header().run_is_recorded.load(Ordering::Acquire)
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        if self.is_leader {
            self.stop();
        }
        // After an error PostgreSQL detaches the segment together with the transaction's other resources.
        if !std::thread::panicking() {
            // SAFETY: the segment is mapped, and this backend has no other reference to it.
            unsafe { pg_sys::dsm_detach(self.segment) };
        }
    }
}

/// Sets the stop flag. Called for whatever reason the leader ends.
unsafe extern "C-unwind" fn stop_workers(segment: *mut pg_sys::dsm_segment, _arg: pg_sys::Datum) {
    // SAFETY: PostgreSQL calls this while the segment is still mapped.
    unsafe { (*pg_sys::dsm_segment_address(segment).cast::<Header>()).stop.store(true, Ordering::Release) };
}
