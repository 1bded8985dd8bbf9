//! Where the init is, for those who watch: the shared page, and what a failure is.

use core::ffi::FromBytesWithNulError;

use orlop_init::plan::{Step, progress};
use rustix::io::Errno;

use crate::sys::SharedPage;

/// Why an operation failed.
#[derive(Clone, Copy)]
pub(crate) struct Fail {
    pub(crate) step: Step,
    pub(crate) errno: i32,
}

impl Fail {
    /// A failure without an errno.
    pub(crate) const fn new(step: Step) -> Self {
        Self { step, errno: 0 }
    }

    /// A failure of a system call.
    pub(crate) fn errno(step: Step, errno: Errno) -> Self {
        Self { step, errno: errno.raw_os_error() }
    }
}

impl From<FromBytesWithNulError> for Fail {
    fn from(_: FromBytesWithNulError) -> Self {
        Self::new(Step::Decode)
    }
}

/// Gives an errno the step that it happened in.
pub(crate) trait At<T> {
    /// The step.
    fn at(self, step: Step) -> Result<T, Fail>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Result<T, Fail> {
        self.map_err(|errno| Fail::errno(step, errno))
    }
}

/// The shared page.
#[derive(Clone, Copy)]
pub(crate) struct Progress(pub(crate) SharedPage);

impl Progress {
    /// The operation that begins.
    pub(crate) fn begin(self, index: u32) {
        self.0.store(progress::INDEX, index);
    }

    /// The operation in progress.
    pub(crate) fn index(self) -> u32 {
        self.0.load(progress::INDEX)
    }

    /// execve(2) comes next.
    pub(crate) fn executing(self) {
        self.0.store(progress::STATE, progress::EXECUTING);
    }

    /// Text that says more than step and errno can; further text is appended.
    pub(crate) fn detail(self, text: &[u8]) {
        let length = self.0.load(progress::DETAIL_LENGTH);
        let offset = progress::DETAIL.saturating_add(length as usize);
        let stored = self.0.store_bytes(offset, text);
        self.0.store(progress::DETAIL_LENGTH, length + u32::try_from(stored).unwrap_or(0));
    }

    /// The operation has failed.
    pub(crate) fn fail(self, fail: Fail) {
        self.0.store(progress::STEP, fail.step as u32);
        self.0.store(progress::ERRNO, fail.errno.cast_unsigned());
        self.0.store(progress::STATE, progress::FAILED);
    }

    /// The errno that was stored with a failure.
    pub(crate) fn errno(self) -> i32 {
        self.0.load(progress::ERRNO).cast_signed()
    }

    /// Whether a child that shares the page has stored a failure.
    pub(crate) fn failed(self) -> bool {
        self.0.load(progress::STATE) == progress::FAILED
    }
}
