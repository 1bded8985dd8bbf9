//! Signals: their names, and those that are passed on to a container.

use std::str::FromStr;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::Failure;
use crate::log::quote;

/// The number of a signal: `9`, `KILL` or `SIGKILL`, in any case.
pub(crate) fn parse(text: &str) -> Result<i32, Failure> {
    let unknown = || Failure::new(format!("unknown signal {}", quote(text)));
    if let Ok(number) = text.parse::<i32>() {
        let last = nix::libc::SIGRTMAX();
        return if (0..=last).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = match name {
        "IOT" => Signal::SIGABRT,
        "CLD" => Signal::SIGCHLD,
        "POLL" => Signal::SIGIO,
        name => Signal::from_str(&format!("SIG{name}")).map_err(|_| unknown())?,
    };
    Ok(number as i32)
}

/// Takes all signals but SIGURG out of their usual way, to be read from the descriptor.
pub(crate) fn divert() -> Result<SignalFd, Failure> {
    let mut signals = SigSet::all();
    signals.remove(Signal::SIGURG);
    let failed = |errno: nix::errno::Errno| {
        Failure::new(format!("cannot receive signals: {}", orlop::error::errno_words(errno as i32)))
    };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&signals), None).map_err(failed)?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_number_or_a_name_in_any_case() {
        for text in ["15", "TERM", "SIGTERM", "sigterm", "Term"] {
            assert_eq!(parse(text).unwrap(), 15, "{text}");
        }
        assert_eq!(parse("0").unwrap(), 0);
        assert_eq!(parse("64").unwrap(), 64);
        assert_eq!(parse("USR1").unwrap(), 10);
        assert_eq!(parse("SIGSTKFLT").unwrap(), 16);
        assert_eq!(parse("PWR").unwrap(), 30);
        assert_eq!(parse("SYS").unwrap(), 31);
    }

    #[test]
    fn all_names_from_1_to_31_are_known() {
        let names = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT \
                     CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
        for (name, number) in names.split_whitespace().zip(1..) {
            assert_eq!(parse(name).unwrap(), number, "{name}");
        }
    }

    #[test]
    fn other_texts_are_unknown_signals() {
        for text in ["FOO", "", "SIG", "65", "-9", "RTMIN", "9x"] {
            let message = parse(text).unwrap_err().message;
            assert_eq!(message, format!("unknown signal \"{text}\""));
        }
    }
}
