//! The allocator, which counts: what `defim bench` tells of memory is exact.

use peak_alloc::PeakAlloc;

/// All of this process's memory.
#[global_allocator]
pub static MEMORY: PeakAlloc = PeakAlloc;
