//! From a source that can be read at any place to a sparse raw disk.
//!
//! A batch of extents is sorted by place in the source and cut into long ranges. Each of a few
//! threads takes the next range, reads it, unpacks and writes it. So several requests are under
//! way at once and reading overlaps with writing, with one buffer a thread and no queue.
//!
//! With a checksum the ranges cover the whole source, gaps too, and each thread waits for its
//! turn to hash: one pass over the source is enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::AnyDisk;
use crate::extent::Extent;
use crate::pages::Pages;
use crate::{Checksum, Disk, Error, Format, Hasher, Packing, Result, Source, Target, open, unpack};

/// A range that is read at once, in bytes.
const RANGE: u64 = 2 << 20;
/// Gaps up to this many bytes are read rather than asked around.
const GAP: u64 = 64 << 10;
/// With a checksum all extents must be known at once; with more than these (32 MiB of memory)
/// the source is hashed in a pass of its own.
const TOGETHER: usize = 1 << 20;

/// How an image is to be imported.
pub struct Job<'a> {
    /// The disk's size in bytes as it was asked for; the image's own when none.
    pub size: Option<u64>,
    /// What the source's bytes must hash to.
    pub checksum: Option<Checksum>,
    /// Whether the disk's space is taken now.
    pub preallocate: bool,
    /// Threads that read and write.
    pub threads: usize,
    /// Hears how much is done, 0 to 1.
    pub progress: &'a (dyn Fn(f64) + Sync),
    /// Set to stop.
    pub cancel: &'a AtomicBool,
}

impl std::fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("size", &self.size)
            .field("checksum", &self.checksum)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Job<'_> {
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the image was.
    pub format: Format,
    /// The size of the disk in the image, in bytes.
    pub virtual_size: u64,
    /// The size of the disk as it was written, in bytes.
    pub size: u64,
    /// The checksum of what was read, where one was asked for.
    pub checksum: Option<Checksum>,
}

/// Makes a blank disk of the size asked for.
///
/// # Errors
/// When there is no space, or no size.
pub fn fill_blank(target: &Target, job: &Job<'_>) -> Result<Outcome> {
    let Some(size) = target.available(job.size) else {
        return Err(Error::Source("a blank disk needs a size".to_owned()));
    };
    target.prepare(size, job.preallocate)?;
    target.sync()?;
    (job.progress)(1.0);
    Ok(Outcome {
        format: Format::Raw,
        virtual_size: size,
        size,
        checksum: None,
    })
}

/// Writes the disk in the image `source`, which is of `format`, to `target`. The target is
/// safely on disk afterwards.
///
/// # Errors
/// When the image is broken or refused, does not fit, is not what the checksum says, or source
/// or target fail. The target then holds nothing of use.
pub fn convert(
    source: &(impl Source + ?Sized),
    format: Format,
    target: &Target,
    job: &Job<'_>,
) -> Result<Outcome> {
    let mut disk = open(source, format)?;
    let virtual_size = disk.virtual_size();
    target.fits(virtual_size, job.size)?;
    let size = target
        .available(job.size)
        .unwrap_or(virtual_size)
        .max(virtual_size);
    target.prepare(size, job.preallocate)?;
    let checksum = write(source, &mut disk, target, job)?;
    target.sync()?;
    (job.progress)(1.0);
    Ok(Outcome {
        format,
        virtual_size,
        size,
        checksum,
    })
}

fn write(
    source: &(impl Source + ?Sized),
    disk: &mut AnyDisk,
    target: &Target,
    job: &Job<'_>,
) -> Result<Option<Checksum>> {
    let mut hasher = job.checksum.as_ref().map(|c| Hasher::new(c.algorithm));
    let total = disk.virtual_size().max(1) as f64;
    let mut extents = Vec::new();
    let mut begun = 0.0;
    loop {
        job.go_on()?;
        let mut more = disk.next_batch(source, &mut extents)?;
        // All at once, so that one pass over the source is enough to hash it.
        while hasher.is_some() && more && extents.len() < TOGETHER {
            more = disk.next_batch(source, &mut extents)?;
        }
        let reached = if more {
            extents
                .last()
                .map_or(begun, |last| last.guest as f64 / total)
        } else {
            1.0
        };
        let whole = if more { None } else { hasher.take() };
        let part = (begun, (reached - begun).max(0.0));
        let hashed = batch(
            source,
            std::mem::take(&mut extents),
            target,
            job,
            whole,
            part,
        )?;
        begun = reached;
        if !more {
            return match (hashed, &job.checksum) {
                (Some(hasher), Some(expected)) => hasher.verify(expected).map(Some),
                _ => Ok(None),
            };
        }
        if let Some(hasher) = hasher.take() {
            let hashed = batch(source, Vec::new(), target, job, Some(hasher), (begun, 0.0))?;
            if let (Some(hasher), Some(expected)) = (hashed, &job.checksum) {
                let found = hasher.verify(expected)?;
                // The rest goes on without.
                rest(source, disk, target, job, begun)?;
                return Ok(Some(found));
            }
        }
    }
}

/// The batches after the one with which the memory for extents was full.
fn rest(
    source: &(impl Source + ?Sized),
    disk: &mut AnyDisk,
    target: &Target,
    job: &Job<'_>,
    begun: f64,
) -> Result<()> {
    let mut extents = Vec::new();
    while disk.next_batch(source, &mut extents)? {
        job.go_on()?;
        let part = (begun, 1.0 - begun);
        batch(
            source,
            std::mem::take(&mut extents),
            target,
            job,
            None,
            part,
        )?;
    }
    Ok(())
}

/// A range of the source and the extents in it.
#[derive(Debug, PartialEq)]
struct Range {
    begin: u64,
    end: u64,
    /// From here on it was in no range before; with a checksum only.
    fresh: u64,
    extents: Vec<Extent>,
}

/// Cuts sorted extents into ranges.
struct Planner {
    extents: std::vec::IntoIter<Extent>,
    held: Option<Extent>,
    /// With a checksum: how far the source is covered, and its length.
    cover: Option<(u64, u64)>,
}

impl Planner {
    fn new(mut extents: Vec<Extent>, cover: Option<u64>) -> Result<Self> {
        extents.sort_unstable_by_key(|extent| (extent.source, extent.source_length));
        let mut taken: Option<&Extent> = None;
        for extent in extents.iter().filter(|e| e.packing == Packing::Plain) {
            if let Some(before) = taken
                && before.source + u64::from(before.source_length) > extent.source
            {
                // The format's name is not known here; the message says all else.
                return Err(Error::Source(format!(
                    "the image is broken: overlapping: the disk's bytes at {} and at {} are at the same place of the file, {}",
                    before.guest, extent.guest, extent.source
                )));
            }
            taken = Some(extent);
        }
        Ok(Self {
            extents: extents.into_iter(),
            held: None,
            cover: cover.map(|length| (0, length)),
        })
    }

    fn next(&mut self) -> Option<Range> {
        let first = self.held.take().or_else(|| self.extents.next());
        if let Some((covered, length)) = self.cover {
            // Bytes of no extent, before the next one or behind the last.
            let until = first.as_ref().map_or(length, |extent| extent.source);
            if covered < until {
                self.held = first;
                let end = until.min(covered + RANGE);
                self.cover = Some((end, length));
                return Some(Range {
                    begin: covered,
                    end,
                    fresh: covered,
                    extents: Vec::new(),
                });
            }
        }
        let first = first?;
        let covered = self.cover.map_or(first.source, |(covered, _)| covered);
        let mut range = Range {
            begin: first.source,
            end: first.source,
            fresh: covered,
            extents: Vec::new(),
        };
        let mut next = Some(first);
        while let Some(extent) = next.take() {
            let from_end = extent.source.saturating_sub(range.end);
            let limit = range.begin + RANGE;
            if from_end > GAP || extent.source >= limit {
                self.held = Some(extent);
                break;
            }
            let whole = extent.source + u64::from(extent.source_length) <= limit;
            if whole || extent.packing != Packing::Plain {
                range.end = range
                    .end
                    .max(extent.source + u64::from(extent.source_length));
                range.extents.push(extent);
                next = self.extents.next();
                continue;
            }
            let (head, tail) = split(extent, limit - extent.source);
            range.end = range.end.max(limit);
            range.extents.push(head);
            self.held = Some(tail);
            break;
        }
        if let Some((covered, length)) = self.cover {
            self.cover = Some((covered.max(range.end), length));
        }
        Some(range)
    }
}

/// The first `length` bytes of a plain extent, and the rest.
fn split(extent: Extent, length: u64) -> (Extent, Extent) {
    let first = u32::try_from(length)
        .unwrap_or(extent.length)
        .min(extent.length);
    let head = Extent {
        length: first,
        source_length: first,
        ..extent
    };
    let tail = Extent {
        guest: extent.guest + u64::from(first),
        source: extent.source + u64::from(first),
        length: extent.length - first,
        source_length: extent.source_length - first,
        packing: extent.packing,
    };
    (head, tail)
}

/// What the threads share.
struct Shared<'a> {
    planner: Mutex<(Planner, u64)>,
    turn: Mutex<Turn>,
    turned: Condvar,
    failed: AtomicBool,
    done: std::sync::atomic::AtomicU64,
    bytes: u64,
    part: (f64, f64),
    job: &'a Job<'a>,
}

struct Turn {
    next: u64,
    hasher: Option<Hasher>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn batch(
    source: &(impl Source + ?Sized),
    extents: Vec<Extent>,
    target: &Target,
    job: &Job<'_>,
    hasher: Option<Hasher>,
    part: (f64, f64),
) -> Result<Option<Hasher>> {
    let bytes = if hasher.is_some() {
        source.length()
    } else {
        extents.iter().map(|e| u64::from(e.source_length)).sum()
    };
    let cover = hasher.is_some().then(|| source.length());
    let shared = Shared {
        planner: Mutex::new((Planner::new(extents, cover)?, 0)),
        turn: Mutex::new(Turn { next: 0, hasher }),
        turned: Condvar::new(),
        failed: AtomicBool::new(false),
        done: std::sync::atomic::AtomicU64::new(0),
        bytes: bytes.max(1),
        part,
        job,
    };
    // A batch of one range is not worth a thread.
    let threads = usize::try_from(bytes / RANGE).unwrap_or(usize::MAX);
    let threads = threads.clamp(1, job.threads.max(1));
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let spawn = || scope.spawn(|| worker(&shared, source, target));
        let handles: Vec<_> = (0..threads).map(|_| spawn()).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            handle
                .join()
                .unwrap_or_else(|_| Err(Error::SourceForNow("a thread failed".to_owned())))
        };
        handles.into_iter().map(join).collect()
    });
    // The first reason is the true one: the other threads only stop.
    let mut stopped = None;
    for result in results {
        match result {
            Ok(()) => {}
            Err(Error::Cancelled) => stopped = Some(Error::Cancelled),
            Err(error) => return Err(error),
        }
    }
    match stopped {
        Some(error) => Err(error),
        None => Ok(shared
            .turn
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .hasher),
    }
}

fn worker(shared: &Shared<'_>, source: &(impl Source + ?Sized), target: &Target) -> Result<()> {
    let result = ranges(shared, source, target);
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
        // Under the lock, so that nobody is between looking and waiting.
        let _turn = lock(&shared.turn);
        shared.turned.notify_all();
    }
    result
}

fn ranges(shared: &Shared<'_>, source: &(impl Source + ?Sized), target: &Target) -> Result<()> {
    let mut buffer = Pages::default();
    let mut unpacked = Pages::default();
    loop {
        shared.job.go_on()?;
        if shared.failed.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let (range, number) = {
            let mut planner = lock(&shared.planner);
            let number = planner.1;
            planner.1 += 1;
            match planner.0.next() {
                Some(range) => (range, number),
                None => return Ok(()),
            }
        };
        let length = usize::try_from(range.end - range.begin).unwrap_or(0);
        let bytes = buffer.first(length);
        source.read_at(bytes, range.begin)?;
        hash(shared, number, &range, bytes)?;
        for extent in &range.extents {
            let from = usize::try_from(extent.source - range.begin).unwrap_or(0);
            let packed = &bytes[from..from + extent.source_length as usize];
            if extent.packing == Packing::Plain {
                target.write_sparse(packed, extent.guest)?;
                source.release(extent.source, u64::from(extent.source_length));
            } else {
                let unpacked = unpacked.first(extent.length as usize);
                unpack::extent(extent.packing, packed, unpacked, extent.guest)?;
                target.write_sparse(unpacked, extent.guest)?;
            }
        }
        tell(shared, range.end - range.begin);
    }
}

/// Waits for its turn and hashes what no range before had.
fn hash(shared: &Shared<'_>, number: u64, range: &Range, bytes: &[u8]) -> Result<()> {
    let mut turn = lock(&shared.turn);
    if turn.hasher.is_none() {
        return Ok(());
    }
    while turn.next != number {
        if shared.failed.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        turn = shared
            .turned
            .wait(turn)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let known = usize::try_from(range.fresh.saturating_sub(range.begin)).unwrap_or(0);
    if let Some(hasher) = &mut turn.hasher {
        hasher.update(bytes.get(known..).unwrap_or_default());
    }
    turn.next += 1;
    shared.turned.notify_all();
    Ok(())
}

fn tell(shared: &Shared<'_>, bytes: u64) {
    let done = shared.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
    let (begun, share) = shared.part;
    let here = (done as f64 / shared.bytes as f64).min(1.0);
    (shared.job.progress)(begun + share * here);
}
