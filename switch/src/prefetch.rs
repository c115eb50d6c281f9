//! Asking for memory that will be needed soon, so that many rows wait for theirs at once.

/// Asks for the cache line where `of` begins.
#[inline(always)]
pub(crate) fn prefetch<T>(of: &T) {
    // SAFETY: a prefetch reads nothing, and every x86-64 has it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(of).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = of;
}
