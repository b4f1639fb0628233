// A reader in Rust, written from docs/abi.md alone: no headers, no crates.
//
//     rustc -O reader.rs
//     ./reader default 0 100
//
// Prints COUNT records of ring RING, from the oldest that is still there on, with their symbols; then
// where it began, where it would go on, and how many records were overwritten before they were read:
// COUNT + lost == next - from.

use std::ffi::c_void;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
use std::{env, fmt::Write, process, thread, time};

const MAGIC: u64 = 0x3147_4553_5344_454d;
const ABI_VERSION: u32 = 4;
const SCHEMA_SYMBOLS: u64 = 0x1_0000_0080_0200;
const SCHEMA_RING: u64 = 0x2_0000_0040_0540;
const HEADER_SIZE: u64 = 4096;

extern "C" {
    // What every Rust program on Linux is linked with has it: mmap(2).
    fn mmap(
        at: *mut c_void,
        size: usize,
        prot: i32,
        flags: i32,
        fd: i32,
        offset: i64,
    ) -> *mut c_void;
}

/// A segment, mapped read-only for as long as the program runs.
#[derive(Clone, Copy)]
struct Segment {
    base: *const u8,
    size: u64,
}

impl Segment {
    fn open(path: &str, kind: u32, schema: u64) -> Result<Segment, String> {
        let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size < HEADER_SIZE {
            return Err(format!("{path}: too short"));
        }
        let (read, shared) = (1, 1);
        let at = std::ptr::null_mut();
        let base = unsafe { mmap(at, size as usize, read, shared, file.as_raw_fd(), 0) };
        if base as isize == -1 {
            return Err(format!("{path}: cannot be mapped"));
        }
        let segment = Segment {
            base: base as *const u8,
            size,
        };
        let sound = segment.word(0).load(Ordering::Acquire) == MAGIC
            && segment.u32(8) == ABI_VERSION
            && segment.u32(12) == kind
            && segment.u64(24) == schema
            && segment.u64(16) <= size
            && segment.half(32).load(Ordering::Acquire) != 3;
        if sound {
            Ok(segment)
        } else {
            Err(format!("{path}: not of this ABI, or superseded"))
        }
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.size);
        unsafe { &*(self.base.add(offset as usize) as *const AtomicU64) }
    }

    fn half(&self, offset: u64) -> &AtomicU32 {
        assert!(offset % 4 == 0 && offset + 4 <= self.size);
        unsafe { &*(self.base.add(offset as usize) as *const AtomicU32) }
    }

    fn u64(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    fn u32(&self, offset: u64) -> u32 {
        self.half(offset).load(Ordering::Relaxed)
    }

    /// Bytes up to a NUL, of a field of at most `room`.
    fn text(&self, offset: u64, room: u64) -> String {
        assert!(offset + room <= self.size);
        let bytes: Vec<u8> = (0..room)
            .map(|i| unsafe { *self.base.add((offset + i) as usize) })
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

struct Ring {
    segment: Segment,
    slots: u64,
    depth: u64,
    next: u64,
    lost: u64,
}

impl Ring {
    /// At the oldest record that is still there.
    fn new(segment: Segment) -> Result<Ring, String> {
        let (depth, slots) = (segment.u64(128), segment.u64(136));
        let fits = depth.is_power_of_two()
            && segment.u32(144) == 64
            && segment.u32(148) == 64
            && slots % 64 == 0
            && slots
                .checked_add(depth.saturating_mul(64))
                .is_some_and(|end| end <= segment.size);
        if !fits {
            return Err("the ring's header is damaged".into());
        }
        let mut ring = Ring {
            segment,
            slots,
            depth,
            next: 1,
            lost: 0,
        };
        ring.next = (ring.head() + 1).saturating_sub(depth).max(1);
        Ok(ring)
    }

    fn slot(&self, seq: u64) -> u64 {
        self.slots + (seq & (self.depth - 1)) * 64
    }

    fn head(&self) -> u64 {
        let mut head = self.segment.word(192).load(Ordering::Acquire);
        for _ in 0..self.depth {
            if self
                .segment
                .word(self.slot(head + 1))
                .load(Ordering::Acquire)
                != head + 1
            {
                break;
            }
            head += 1;
        }
        head
    }

    /// At most `room` new records, whole or not at all.
    fn read(&mut self, mut room: usize) -> Vec<[u64; 8]> {
        let mut batch = Vec::with_capacity(room);
        for _ in 0..16 {
            batch.clear();
            let mut seen = 0;
            while batch.len() < room {
                let expected = self.next + batch.len() as u64;
                let slot = self.slot(expected);
                seen = self.segment.word(slot).load(Ordering::Acquire); // R1
                if seen != expected {
                    break;
                }
                let mut record = [seen; 8];
                for i in 1..8 {
                    record[i] = self.segment.u64(slot + 8 * i as u64); // R2
                }
                batch.push(record);
            }
            if batch.is_empty() && seen < self.next {
                return batch;
            }
            if !batch.is_empty() {
                fence(Ordering::Acquire); // R3
                if self.segment.u64(self.slot(self.next)) == self.next {
                    // R4
                    self.next += batch.len() as u64;
                    return batch;
                }
            }
            let resume = (self.head() + 1).saturating_sub(self.depth / 2).max(1);
            self.lost += resume.saturating_sub(self.next);
            self.next = self.next.max(resume);
            room = room / 4 + 1;
        }
        batch.clear();
        batch
    }
}

fn run(instance: &str, ring: u32, count: u64) -> Result<(), String> {
    let path = format!("/dev/shm/mdsys.{instance}.symbols");
    let symbols = Segment::open(&path, 1, SCHEMA_SYMBOLS)?;
    let directory = symbols.text(192, 256);
    let (entries, stride) = (symbols.u64(144), u64::from(symbols.u32(140)));
    let segment = Segment::open(
        &format!("{directory}/mdsys.{instance}.ring.{ring}"),
        2,
        SCHEMA_RING,
    )?;
    let mut ring = Ring::new(segment)?;
    let first = ring.next;
    let mut printed = 0;
    while printed < count {
        let batch = ring.read((count - printed).min(256) as usize);
        if batch.is_empty() {
            thread::sleep(time::Duration::from_micros(100));
        }
        for record in &batch {
            let id = record[3] as u32;
            let known = id != 0 && id <= symbols.half(132).load(Ordering::Acquire);
            let name = if known {
                symbols.text(entries + u64::from(id) * stride + 64, 64)
            } else {
                "*".into()
            };
            let [_, _, _, _, kind, flags, price_scale, size_scale] = record[3].to_le_bytes();
            let mut line = format!("{} {} {}", record[0], record[1] as i64, record[2] as i64);
            write!(line, " {name} {kind} {flags} {price_scale} {size_scale}").unwrap();
            for word in &record[4..] {
                write!(line, " {}", *word as i64).unwrap();
            }
            println!("{line}");
        }
        printed += batch.len() as u64;
    }
    println!("from {first} next {} lost {}", ring.next, ring.lost);
    Ok(())
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [instance, ring, count] => ring
            .parse()
            .ok()
            .zip(count.parse().ok())
            .map(|n| (instance, n)),
        _ => None,
    };
    let Some((instance, (ring, count))) = parsed else {
        eprintln!("usage: reader INSTANCE RING COUNT");
        process::exit(64);
    };
    if let Err(error) = run(instance, ring, count) {
        eprintln!("reader: {error}");
        process::exit(69);
    }
}
