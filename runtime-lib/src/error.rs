//! The one error type: which config.json field, what was tried, on what, why it failed, and what helps.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The path of a config.json field, as `linux.maskedPaths[2]`.
pub type Field = Cow<'static, str>;

/// What every fallible call of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an [`Error`], for callers that act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// config.json is malformed, or contradicts the runtime-spec or itself.
    InvalidConfig,
    /// The configuration is valid, but this build or this host cannot do what it asks for.
    Unsupported,
    /// An argument of the call (an id, a signal, a path) is invalid.
    InvalidArgument,
    /// There is no container of that id.
    NotFound,
    /// There is a container of that id already.
    AlreadyExists,
    /// The container's state does not allow the operation.
    InvalidState,
    /// The init failed while it set up the container.
    Init,
    /// A hook failed or ran past its timeout.
    Hook,
    /// The program of the container cannot be executed.
    Exec,
    /// A system call on the host's side failed.
    System,
    /// Orlop contradicts itself; please report it.
    Bug,
}

/// An error: the OCI field, the action, the object, the errno and, where there is one, a remedy.
///
/// It prints as `linux.maskedPaths[2]: cannot mask "/proc/kcore": permission denied (EACCES)`.
#[derive(thiserror::Error)]
#[error("{0}")]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    field: Option<Field>,
    message: Cow<'static, str>,
    errno: Option<i32>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    /// An error of `kind`; `message` says what was tried, on what.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Inner { kind, field: None, message, errno: None, hint: None }))
    }

    /// A field of config.json that is wrong.
    pub fn config(field: impl Into<Field>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidConfig, message).at(field)
    }

    /// A field of config.json that this build or host cannot honour.
    pub fn unsupported(field: impl Into<Field>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message).at(field)
    }

    /// A failed system call on the host's side; `message` as `cannot open "/x"`.
    pub fn sys(message: impl Into<Cow<'static, str>>, errno: impl IntoErrno) -> Self {
        Self::new(ErrorKind::System, message).errno(errno)
    }

    /// An impossible state that was reached all the same.
    pub fn bug(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Bug, message).hint("this is a bug in orlop; please report it")
    }

    /// Names the config.json field, unless one is named already.
    #[must_use]
    pub fn at(mut self, field: impl Into<Field>) -> Self {
        self.0.field.get_or_insert_with(|| field.into());
        self
    }

    /// Adds the errno that the kernel gave.
    #[must_use]
    pub fn errno(mut self, errno: impl IntoErrno) -> Self {
        self.0.errno = errno.into_errno();
        self
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path of the config.json field that caused it, where one did.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The kernel's error number (errno(3)), where a system call failed.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.errno
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", errno_text(errno))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// The text and name of an errno in the form that callers of runtimes match on (Go's: lower case,
/// no "os error N"), as `permission denied (EACCES)`.
pub(crate) fn errno_text(errno: i32) -> String {
    let known = nix::errno::Errno::from_raw(errno);
    if known == nix::errno::Errno::UnknownErrno {
        return format!("errno {errno}");
    }
    format!("{} ({known:?})", errno_words(errno))
}

/// The words of an errno(3) as glibc and Go have them, in lower case: callers compare them.
#[must_use]
pub fn errno_words(errno: i32) -> String {
    // nix has other words of its own for these.
    let words = match errno {
        libc::EIO => "input/output error",
        libc::EBADF => "bad file descriptor",
        libc::EAGAIN => "resource temporarily unavailable",
        libc::ENOMEM => "cannot allocate memory",
        libc::EXDEV => "invalid cross-device link",
        libc::ENFILE => "too many open files in system",
        libc::ENOTTY => "inappropriate ioctl for device",
        libc::EDOM => "numerical argument out of domain",
        libc::ERANGE => "numerical result out of range",
        libc::EDEADLK => "resource deadlock avoided",
        libc::ENOLCK => "no locks available",
        libc::ELOOP => "too many levels of symbolic links",
        libc::EBADMSG => "bad message",
        libc::EILSEQ => "invalid or incomplete multibyte or wide character",
        libc::EOPNOTSUPP => "operation not supported",
        libc::ENETRESET => "network dropped connection on reset",
        libc::EDQUOT => "disk quota exceeded",
        _ => return nix::errno::Errno::from_raw(errno).desc().to_lowercase(),
    };
    words.to_owned()
}

/// What an errno can be taken from.
pub trait IntoErrno {
    /// The error number, if there is one.
    fn into_errno(self) -> Option<i32>;
}

impl IntoErrno for i32 {
    fn into_errno(self) -> Option<i32> {
        Some(self)
    }
}

impl IntoErrno for rustix::io::Errno {
    fn into_errno(self) -> Option<i32> {
        Some(self.raw_os_error())
    }
}

impl IntoErrno for nix::errno::Errno {
    fn into_errno(self) -> Option<i32> {
        Some(self as i32)
    }
}

impl IntoErrno for &io::Error {
    fn into_errno(self) -> Option<i32> {
        self.raw_os_error()
    }
}

impl IntoErrno for io::Error {
    fn into_errno(self) -> Option<i32> {
        self.raw_os_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_field_action_object_errno_and_hint() {
        let error = Error::sys("cannot mask \"/proc/kcore\"", libc::EACCES)
            .at("linux.maskedPaths[2]")
            .hint("run as root");
        assert_eq!(
            error.to_string(),
            "linux.maskedPaths[2]: cannot mask \"/proc/kcore\": permission denied (EACCES); run as root"
        );
    }

    #[test]
    fn the_first_field_named_is_kept() {
        let error = Error::config("process.args", "must not be empty").at("process");
        assert_eq!(error.field(), Some("process.args"));
    }

    #[test]
    fn errno_texts_are_lower_case_as_callers_match_them() {
        assert_eq!(errno_text(libc::ENOENT), "no such file or directory (ENOENT)");
        assert_eq!(errno_text(libc::ESRCH), "no such process (ESRCH)");
        assert_eq!(errno_text(libc::EISDIR), "is a directory (EISDIR)");
        assert_eq!(errno_text(libc::ELOOP), "too many levels of symbolic links (ELOOP)");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn errno_texts_are_those_of_glibc() {
        for errno in 1..=133 {
            let own = io::Error::from_raw_os_error(errno).to_string();
            let words = own.rsplit_once(" (os error").unwrap().0.to_lowercase();
            if !words.starts_with("unknown error") {
                assert_eq!(errno_words(errno), words);
            }
        }
    }
}
