//! What the leader tells its workers, in a segment of shared memory: the tenants to visit, how, and whether to stop.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use pgrx::{Uuid, pg_sys};

use crate::error::{Error, Result};
use crate::pg::locks::ObjectLock;

/// What is to be done to each tenant.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Task {
    Migrate,
    /// To delete for good what was soft-deleted, and not after `deleted_until`.
    Purge,
}

/// Bytes of an error that are kept for the leader.
const ERROR_SIZE: usize = 500;

/// Fixed size; the tenants' ids and the target's text follow it in the segment.
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
    /// Workers that came so far, and a bit for each that holds its lock, or did.
    arrived: AtomicU32,
    present: AtomicU64,
    run_is_recorded: AtomicBool,
    stop: AtomicBool,
    error_is_taken: AtomicBool,
    error_len: AtomicU32,
    error: UnsafeCell<[u8; ERROR_SIZE]>,
}

/// How to visit.
pub struct Plan<'a> {
    pub task: Task,
    /// Microseconds, as the server counts them.
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
    /// Sort key and text are the worker's to look up again.
    pub target: Option<&'a str>,
    pub tenants: &'a [Uuid],
}

/// A mapped segment. The leader's goes when it drops, with an order to stop.
pub struct JobQueue {
    segment: *mut pg_sys::dsm_segment,
    header: *const Header,
    is_leader: bool,
}

impl JobQueue {
    pub fn write(plan: &Plan) -> Result<Self> {
        let target = plan.target.unwrap_or_default().as_bytes();
        let size = size_of::<Header>() + plan.tenants.len() * 16 + target.len();
        // SAFETY: a fresh segment of the asked size, page-aligned; all of it is written before any worker can know it.
        // From the moment it exists, the end of this backend however it comes, orders the workers to stop.
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
                arrived: AtomicU32::new(0),
                present: AtomicU64::new(0),
                run_is_recorded: AtomicBool::new(false),
                stop: AtomicBool::new(false),
                error_is_taken: AtomicBool::new(false),
                error_len: AtomicU32::new(0),
                error: UnsafeCell::new([0; ERROR_SIZE]),
            });
            let ids = header.add(1).cast::<[u8; 16]>();
            for (i, id) in plan.tenants.iter().enumerate() {
                ids.add(i).write(*id.as_bytes());
            }
            let text = ids.add(plan.tenants.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(target.as_ptr(), text, target.len());
            pg_sys::on_dsm_detach(segment, Some(leader_is_gone), pg_sys::Datum::from(0usize));
            Ok(JobQueue { segment, header, is_leader: true })
        }
    }

    pub fn read(handle: pg_sys::dsm_handle) -> Result<Self> {
        // SAFETY: null where the segment is gone; the leader wrote a header before it gave the handle away.
        unsafe {
            let segment = pg_sys::dsm_attach(handle);
            if segment.is_null() {
                return Err(Error::internal("the session that asked is gone"));
            }
            // Outlives transactions: the worker has many.
            pg_sys::dsm_pin_mapping(segment);
            Ok(JobQueue { segment, header: pg_sys::dsm_segment_address(segment).cast(), is_leader: false })
        }
    }

    pub fn handle(&self) -> pg_sys::dsm_handle {
        // SAFETY: a mapped segment.
        unsafe { pg_sys::dsm_segment_handle(self.segment) }
    }

    fn header(&self) -> &Header {
        // SAFETY: mapped as long as self lives; what changes after the leader wrote it is atomic.
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
        // SAFETY: the leader wrote that many bytes of UTF-8 behind the ids.
        unsafe {
            let text = self.header.add(1).cast::<[u8; 16]>().add(header.total as usize).cast::<u8>();
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(text, header.target_len as usize))
        }
    }

    pub fn total(&self) -> u32 {
        self.header().total
    }

    /// The next tenant that no other worker of this run has taken.
    pub fn take(&self) -> Option<Uuid> {
        let header = self.header();
        if header.stop.load(Ordering::Acquire) {
            return None;
        }
        let index = header.next.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the leader wrote `total` ids behind the header.
        (index < header.total)
            .then(|| unsafe { Uuid::from_bytes(self.header.add(1).cast::<[u8; 16]>().add(index as usize).read()) })
    }

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

    /// Tenants done, and failed among them.
    pub fn counts(&self) -> (u32, u32) {
        (self.header().done.load(Ordering::Acquire), self.header().failed.load(Ordering::Acquire))
    }

    /// Keeps the first error that a worker met, cut to what there is room for.
    pub fn tell(&self, error: &str) {
        let header = self.header();
        if header.error_is_taken.swap(true, Ordering::AcqRel) {
            return;
        }
        let len = (0..=error.len().min(ERROR_SIZE)).rev().find(|&end| error.is_char_boundary(end)).unwrap_or(0);
        // SAFETY: whoever came first has the buffer for itself until the length is known.
        unsafe { std::ptr::copy_nonoverlapping(error.as_ptr(), header.error.get().cast::<u8>(), len) };
        header.error_len.store(len as u32, Ordering::Release);
    }

    pub fn first_error(&self) -> String {
        let len = self.header().error_len.load(Ordering::Acquire) as usize;
        // SAFETY: once the length is known nobody writes any more.
        let bytes = unsafe { std::slice::from_raw_parts(self.header().error.get().cast::<u8>(), len) };
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub fn stop(&self) {
        self.header().stop.store(true, Ordering::Release);
    }

    pub fn is_stopped(&self) -> bool {
        self.header().stop.load(Ordering::Acquire)
    }

    /// The number of a worker that comes, below 64.
    pub fn arrive(&self) -> u32 {
        self.header().arrived.fetch_add(1, Ordering::AcqRel)
    }

    /// What a worker holds for as long as it lives, and its leader waits for.
    pub fn lock_of_worker(&self, number: u32) -> Result<ObjectLock> {
        ObjectLock::of_worker(self.handle(), number)
    }

    pub fn mark_present(&self, number: u32) {
        self.header().present.fetch_or(1 << number, Ordering::AcqRel);
    }

    /// A bit for each worker whose lock can be waited for.
    pub fn present(&self) -> u64 {
        self.header().present.load(Ordering::Acquire)
    }

    /// Whether the caller is the first; it records the run before any other begins.
    pub fn enter(&self) -> bool {
        self.header().running.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Whether the caller is the last to leave.
    pub fn leave(&self) -> bool {
        self.header().running.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub fn mark_recorded(&self) {
        self.header().run_is_recorded.store(true, Ordering::Release);
    }

    pub fn is_recorded(&self) -> bool {
        self.header().run_is_recorded.load(Ordering::Acquire)
    }
}

impl Drop for JobQueue {
    fn drop(&mut self) {
        if self.is_leader {
            self.stop();
        }
        // After an error the server detaches with the transaction's other resources.
        if !std::thread::panicking() {
            // SAFETY: mapped, and used by nobody else in this backend.
            unsafe { pg_sys::dsm_detach(self.segment) };
        }
    }
}

/// However the leader ends, its workers take nothing more on.
unsafe extern "C-unwind" fn leader_is_gone(segment: *mut pg_sys::dsm_segment, _arg: pg_sys::Datum) {
    // SAFETY: called by the server while the segment is still mapped.
    unsafe { (*pg_sys::dsm_segment_address(segment).cast::<Header>()).stop.store(true, Ordering::Release) };
}
