//! How a command fails: a message and an exit code.

use std::io;

use orlop::ErrorKind;
use rustix::io::Errno;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What to say.
    pub(crate) message: String,
    /// The exit code.
    pub(crate) code: u8,
}

/// What a command returns: its exit code.
pub(crate) type Outcome = Result<u8, Failure>;

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// A system call that failed: `what: no such file or directory`.
    pub(crate) fn system(what: impl std::fmt::Display, errno: Errno) -> Self {
        Self::new(format!("{what}: {}", errno_text(errno)))
    }

    /// A call of the standard library that failed.
    pub(crate) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::system(what, Errno::from_raw_os_error(number)),
            None => Self::new(format!("{what}: {error}")),
        }
    }

    /// A container that could not be created or run, in the words that callers look for.
    pub(crate) fn launch(error: &orlop::Error) -> Self {
        let prefix = match error.kind() {
            ErrorKind::Init | ErrorKind::Exec => {
                "unable to start container process: error during container init: "
            }
            ErrorKind::Hook => "unable to start container process: ",
            _ => "",
        };
        Self::new(format!("{prefix}{error}"))
    }

    /// A process that could not be run in a container, likewise.
    pub(crate) fn exec(error: &orlop::Error) -> Self {
        let prefix = match error.kind() {
            ErrorKind::Init | ErrorKind::Exec => "unable to start container process: ",
            _ => "",
        };
        Self::new(format!("{prefix}{error}"))
    }

    /// The same failure with a text before its message.
    pub(crate) fn prefixed(self, prefix: impl std::fmt::Display) -> Self {
        Self { message: format!("{prefix}{}", self.message), ..self }
    }
}

impl From<orlop::Error> for Failure {
    fn from(error: orlop::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// An errno as Go prints it, which callers compare: lower case, without the number.
pub(crate) fn errno_text(errno: Errno) -> String {
    orlop::error::errno_words(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop::Error;

    #[test]
    fn system_errors_read_as_in_go() {
        let failure = Failure::system("open /x", Errno::NOENT);
        assert_eq!(failure.message, "open /x: no such file or directory");
    }

    #[test]
    fn a_program_that_is_not_there_keeps_the_text_that_callers_match() {
        let error = Error::new(ErrorKind::Exec, "exec: \"x\": executable file not found in $PATH")
            .at("process.args[0]");
        assert_eq!(
            Failure::launch(&error).prefixed("orlop create failed: ").message,
            "orlop create failed: unable to start container process: error during container init: \
             process.args[0]: exec: \"x\": executable file not found in $PATH"
        );
    }

    #[test]
    fn hooks_fail_outside_of_the_init() {
        let error = Error::new(ErrorKind::Hook, "error running prestart hook #0: exit status 1");
        assert_eq!(
            Failure::launch(&error).message,
            "unable to start container process: error running prestart hook #0: exit status 1"
        );
    }

    #[test]
    fn other_errors_have_no_prefix() {
        let error = Error::new(ErrorKind::AlreadyExists, "container with given ID already exists");
        assert_eq!(Failure::launch(&error).message, "container with given ID already exists");
    }
}
