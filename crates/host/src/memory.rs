//! The process' own memory.

/// Gives memory that was freed back to the kernel; true when there was some.
///
/// glibc keeps freed memory below the top of its heap for itself. A component
/// that did something large once (rendered every manifest, say) and is idle
/// from then on calls this afterwards.
#[allow(unsafe_code)]
pub fn give_back() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: malloc_trim(3) is thread-safe, takes no pointer, and touches
        // only memory that the allocator holds and nobody has a reference to.
        unsafe { nix::libc::malloc_trim(0) == 1 }
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_back_leaves_live_memory_alone() {
        let kept = vec![7_u8; 1 << 20];
        drop(vec![1_u8; 1 << 20]);
        give_back();
        assert!(kept.iter().all(|byte| *byte == 7));
    }
}
