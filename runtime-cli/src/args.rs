//! The grammar of the command line: the one of runc (Go flags), which getopt-like parsers do not speak.
//!
//! Each command has one [`Grammar`]. [`Grammar::parse`] first rewrites what the user typed into plain
//! `--name=value` arguments, which is where the dialect ends (`-name`, `--keep=false`, `--limit -1`,
//! options after the id), and then lets clap, built for this one command only, do the rest.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing, or `=true` and `=false` in one of Go's spellings.
    Switch,
    /// A text; the last one counts.
    Value,
    /// A whole number, perhaps negative; the last one counts.
    Number,
    /// A text; all of them count, and none is split at commas.
    List,
}

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its long name, without dashes.
    pub(crate) name: &'static str,
    /// A one-letter name, or `""`.
    pub(crate) short: &'static str,
    /// What it takes.
    pub(crate) kind: Kind,
    /// What it is for; empty hides it from the help.
    pub(crate) about: &'static str,
}

impl Flag {
    /// A flag that is on or off.
    pub(crate) const fn switch(name: &'static str, about: &'static str) -> Self {
        Self { name, short: "", kind: Kind::Switch, about }
    }
    /// A flag with a text.
    pub(crate) const fn value(name: &'static str, about: &'static str) -> Self {
        Self { name, short: "", kind: Kind::Value, about }
    }
    /// A flag with a number.
    pub(crate) const fn number(name: &'static str, about: &'static str) -> Self {
        Self { name, short: "", kind: Kind::Number, about }
    }
    /// A flag with a text that may be given again.
    pub(crate) const fn list(name: &'static str, about: &'static str) -> Self {
        Self { name, short: "", kind: Kind::List, about }
    }
    /// The same, with a one-letter name too.
    pub(crate) const fn short(mut self, short: &'static str) -> Self {
        self.short = short;
        self
    }
}

/// A command (or the program itself): what it is called with.
#[derive(Debug)]
pub(crate) struct Grammar {
    /// The command's name; empty for the program.
    pub(crate) name: &'static str,
    /// One line on what it does.
    pub(crate) about: &'static str,
    /// How its arguments are shown.
    pub(crate) operands: &'static str,
    /// How many arguments it takes: at least, at most.
    pub(crate) count: (usize, usize),
    /// Its flags.
    pub(crate) flags: &'static [Flag],
    /// Which arguments are options.
    pub(crate) options: Options,
}

/// Which arguments are options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Options {
    /// All that look like one.
    Everywhere,
    /// None that follows the first argument.
    First,
    /// After the first argument, only those that the command has: a signal may begin with a dash.
    Known,
}

/// Why there is nothing to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// Help was asked for.
    Help,
    /// This is wrong.
    Wrong(String),
}

/// A parsed command line.
#[derive(Debug)]
pub(crate) struct Parsed {
    flags: ArgMatches,
    /// The arguments that are no options.
    pub(crate) operands: Vec<OsString>,
}

impl Grammar {
    /// Parses the arguments after the command's name.
    pub(crate) fn parse(&self, arguments: &[OsString]) -> Result<Parsed, Misuse> {
        let Plain { options, operands } = self.rewrite(arguments)?;
        let flags = self.command().try_get_matches_from(options).map_err(|error| {
            Misuse::Wrong(wrong_value(&error).unwrap_or_else(|| error.to_string()))
        })?;
        Ok(Parsed { flags, operands })
    }

    /// What is wrong with the number of arguments, if anything.
    pub(crate) fn check_count(&self, program: &str, parsed: &Parsed) -> Result<(), String> {
        let (least, most) = self.count;
        let count = parsed.operands.len();
        let Self { name, .. } = self;
        if least == most && count != least {
            Err(format!("{program}: \"{name}\" requires exactly {least} argument(s)"))
        } else if count < least {
            Err(format!("{program}: \"{name}\" requires a minimum of {least} argument(s)"))
        } else if count > most {
            Err(format!("{program}: \"{name}\" requires a maximum of {most} argument(s)"))
        } else {
            Ok(())
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Flag> {
        self.flags.iter().find(|flag| {
            flag.name.as_bytes() == name
                || (!flag.short.is_empty() && flag.short.as_bytes() == name)
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name)
            .no_binary_name(true)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .args_override_self(true);
        for flag in self.flags {
            let (action, parser) = match flag.kind {
                Kind::Switch => (ArgAction::Set, ValueParser::bool()),
                Kind::Value => (ArgAction::Set, ValueParser::os_string()),
                Kind::Number => (ArgAction::Set, clap::value_parser!(i64).into()),
                Kind::List => (ArgAction::Append, ValueParser::os_string()),
            };
            command = command.arg(
                Arg::new(flag.name)
                    .long(flag.name)
                    .action(action)
                    .value_parser(parser)
                    .require_equals(true),
            );
        }
        command
    }

    fn rewrite(&self, arguments: &[OsString]) -> Result<Plain, Misuse> {
        let mut plain = Plain::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some((name, value)) = split(argument)? else {
                plain.operands.push(argument.clone());
                if self.options == Options::First {
                    break;
                }
                continue;
            };
            if name.is_empty() {
                break;
            }
            let Some(flag) = self.find(name) else {
                if matches!(name, b"h" | b"help") {
                    return Err(Misuse::Help);
                }
                if self.options == Options::Known && !plain.operands.is_empty() {
                    plain.operands.push(argument.clone());
                    continue;
                }
                let name = String::from_utf8_lossy(name);
                return Err(Misuse::Wrong(format!("flag provided but not defined: -{name}")));
            };
            let value = match (flag.kind, value) {
                (Kind::Switch, None) => OsStr::new("true"),
                (Kind::Switch, Some(value)) => OsStr::new(switch(flag.name, value)?),
                (_, Some(value)) => value,
                (_, None) => rest.next().ok_or_else(|| {
                    let typed = argument.to_string_lossy();
                    Misuse::Wrong(format!("flag needs an argument: {typed}"))
                })?,
            };
            let mut option = OsString::from(format!("--{}=", flag.name));
            option.push(value);
            plain.options.push(option);
        }
        plain.operands.extend(rest.cloned());
        Ok(plain)
    }
}

impl Parsed {
    /// Whether a switch is on; one that the command does not have is off.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.flags.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false)
    }
    /// Whether a switch was set on or off, if it was.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.flags.try_get_one::<bool>(name).ok().flatten().copied()
    }
    /// The text of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.flags.get_one::<OsString>(name).map(OsString::as_os_str)
    }
    /// The texts of a flag.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let values = self.flags.get_many::<OsString>(name).into_iter().flatten();
        values.map(|value| value.to_string_lossy().into_owned()).collect()
    }
    /// The number of a flag.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.flags.get_one::<i64>(name).copied()
    }
    /// The argument of this index, as a text; empty where there is none.
    pub(crate) fn operand(&self, index: usize) -> String {
        self.operands.get(index).map(|o| o.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Arguments in clap's own dialect.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plain {
    options: Vec<OsString>,
    operands: Vec<OsString>,
}

/// An option as typed: its name without dashes, and what follows a `=`.
type Typed<'a> = (&'a [u8], Option<&'a OsStr>);

/// Splits an option into name and value; the name is empty for `--`. `None`: it is no option.
fn split(argument: &OsStr) -> Result<Option<Typed<'_>>, Misuse> {
    let bytes = argument.as_bytes();
    let Some(name) = bytes.strip_prefix(b"-").filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = name.strip_prefix(b"-").unwrap_or(name);
    if name.starts_with(b"-") || name.starts_with(b"=") {
        let typed = argument.to_string_lossy();
        return Err(Misuse::Wrong(format!("bad flag syntax: {typed}")));
    }
    let mut halves = name.splitn(2, |byte| *byte == b'=');
    let name = halves.next().unwrap_or_default();
    Ok(Some((name, halves.next().map(OsStr::from_bytes))))
}

/// A boolean as Go's strconv.ParseBool reads it.
pub(crate) fn boolean(text: &OsStr) -> Option<bool> {
    match text.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

fn switch(name: &str, value: &OsStr) -> Result<&'static str, Misuse> {
    match boolean(value) {
        Some(true) => Ok("true"),
        Some(false) => Ok("false"),
        None => Err(Misuse::Wrong(format!(
            "invalid value {value:?} for flag -{name}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

/// clap's "invalid value" in the words of Go's flags.
fn wrong_value(error: &clap::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?.trim_start_matches('-');
    let flag = flag.split(['=', ' ']).next()?;
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    Some(format!(
        "invalid value {value:?} for flag -{flag}: strconv.ParseInt: parsing {value:?}: invalid syntax"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar {
        name: "test",
        about: "",
        operands: "",
        count: (1, 1),
        flags: &[
            Flag::switch("keep", "k").short("k"),
            Flag::value("bundle", "b").short("b"),
            Flag::number("limit", "l"),
            Flag { name: "env", short: "e", kind: Kind::List, about: "e" },
        ],
        options: Options::Everywhere,
    };

    fn parse(arguments: &[&str]) -> Result<Parsed, Misuse> {
        GRAMMAR.parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn wrong(arguments: &[&str]) -> String {
        match parse(arguments) {
            Err(Misuse::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn env(parsed: &Parsed) -> Vec<String> {
        let all = parsed.flags.get_many::<OsString>("env").unwrap();
        all.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        let parsed = parse(&["-keep", "-bundle", "/b", "-limit=3", "id"]).unwrap();
        assert!(parsed.is_on("keep"));
        assert_eq!(parsed.value("bundle"), Some(OsStr::new("/b")));
        assert_eq!(parsed.number("limit"), Some(3));
        assert_eq!(parsed.operand(0), "id");
    }

    #[test]
    fn one_letter_names_take_values_in_both_forms() {
        assert_eq!(parse(&["-b", "/b"]).unwrap().value("bundle"), Some(OsStr::new("/b")));
        assert_eq!(parse(&["--b=/b"]).unwrap().value("bundle"), Some(OsStr::new("/b")));
        assert!(parse(&["-k"]).unwrap().is_on("keep"));
    }

    #[test]
    fn switches_take_the_booleans_of_go() {
        for off in ["--keep=false", "-keep=0", "--keep=F", "-k=f"] {
            assert!(!parse(&[off]).unwrap().is_on("keep"), "{off}");
        }
        for on in ["--keep=true", "--keep=1", "--keep=T", "--keep"] {
            assert!(parse(&[on]).unwrap().is_on("keep"), "{on}");
        }
        assert_eq!(
            wrong(&["--keep=maybe"]),
            "invalid value \"maybe\" for flag -keep: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
    }

    #[test]
    fn a_switch_never_takes_the_next_argument() {
        let parsed = parse(&["--keep", "false"]).unwrap();
        assert!(parsed.is_on("keep"));
        assert_eq!(parsed.operand(0), "false");
    }

    #[test]
    fn a_repeated_flag_is_fine_and_the_last_value_counts() {
        let parsed =
            parse(&["--keep", "--bundle", "a", "--keep", "--bundle=b", "--limit=1", "-limit", "2"]);
        let parsed = parsed.unwrap();
        assert!(parsed.is_on("keep"));
        assert_eq!(parsed.value("bundle"), Some(OsStr::new("b")));
        assert_eq!(parsed.number("limit"), Some(2));
    }

    #[test]
    fn lists_keep_every_value_whole() {
        let parsed = parse(&["-e", "A=x,y", "id", "--env=B=--c"]).unwrap();
        assert_eq!(env(&parsed), ["A=x,y", "B=--c"]);
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        assert_eq!(parse(&["--limit", "-1", "id"]).unwrap().number("limit"), Some(-1));
        let parsed = parse(&["--bundle", "--keep", "id"]).unwrap();
        assert_eq!(parsed.value("bundle"), Some(OsStr::new("--keep")));
        assert!(!parsed.is_on("keep"));
    }

    #[test]
    fn a_value_may_be_empty() {
        assert_eq!(parse(&["--bundle="]).unwrap().value("bundle"), Some(OsStr::new("")));
        assert_eq!(parse(&["--bundle", ""]).unwrap().value("bundle"), Some(OsStr::new("")));
    }

    #[test]
    fn options_may_follow_the_id() {
        let parsed = parse(&["id", "--keep", "-b", "x"]).unwrap();
        assert!(parsed.is_on("keep"));
        assert_eq!(parsed.operands, ["id"]);
    }

    #[test]
    fn options_stop_at_the_first_argument_where_the_command_says_so() {
        let grammar = Grammar { options: Options::First, ..GRAMMAR };
        let arguments = ["--keep", "id", "-9", "--help"].map(OsString::from);
        let parsed = grammar.parse(&arguments).unwrap();
        assert_eq!(parsed.operands, ["id", "-9", "--help"]);
    }

    #[test]
    fn unknown_options_behind_the_first_argument_are_arguments_where_the_command_says_so() {
        let grammar = Grammar { options: Options::Known, ..GRAMMAR };
        let arguments = ["id", "-9", "--keep", "--", "-k"].map(OsString::from);
        let parsed = grammar.parse(&arguments).unwrap();
        assert_eq!(parsed.operands, ["id", "-9", "-k"]);
        assert!(parsed.is_on("keep"));
        let text = grammar.parse(&["-9", "id"].map(OsString::from)).unwrap_err();
        assert_eq!(text, Misuse::Wrong("flag provided but not defined: -9".to_owned()));
        assert_eq!(grammar.parse(&["id", "-h"].map(OsString::from)).unwrap_err(), Misuse::Help);
    }

    #[test]
    fn two_dashes_end_the_options() {
        let parsed = parse(&["--keep", "--", "--bundle", "-x"]).unwrap();
        assert_eq!(parsed.operands, ["--bundle", "-x"]);
        assert_eq!(parse(&["a", "--", "b"]).unwrap().operands, ["a", "b"]);
    }

    #[test]
    fn a_lone_dash_is_an_argument() {
        assert_eq!(parse(&["-"]).unwrap().operands, ["-"]);
    }

    #[test]
    fn unknown_flags_are_named_without_their_dashes() {
        assert_eq!(wrong(&["--bogus=1"]), "flag provided but not defined: -bogus");
        assert_eq!(wrong(&["id", "-x"]), "flag provided but not defined: -x");
        assert_eq!(wrong(&["---x"]), "bad flag syntax: ---x");
    }

    #[test]
    fn flags_are_never_abbreviated() {
        assert_eq!(wrong(&["--bund=x"]), "flag provided but not defined: -bund");
    }

    #[test]
    fn a_missing_value_says_flag_needs_an_argument() {
        assert_eq!(wrong(&["--bundle"]), "flag needs an argument: --bundle");
        assert_eq!(wrong(&["id", "-b"]), "flag needs an argument: -b");
    }

    #[test]
    fn a_number_that_is_none_is_named_with_its_flag() {
        assert_eq!(
            wrong(&["--limit", "many"]),
            "invalid value \"many\" for flag -limit: strconv.ParseInt: parsing \"many\": invalid syntax"
        );
    }

    #[test]
    fn help_is_found_among_the_options() {
        for help in ["-h", "--help", "-help", "--h"] {
            assert_eq!(parse(&["id", help]).unwrap_err(), Misuse::Help, "{help}");
        }
    }

    #[test]
    fn the_count_of_arguments_is_checked_in_the_words_of_runc() {
        let none = parse(&[]).unwrap();
        let three = parse(&["1", "2", "3"]).unwrap();
        assert_eq!(
            GRAMMAR.check_count("/bin/x", &none).unwrap_err(),
            "/bin/x: \"test\" requires exactly 1 argument(s)"
        );
        let range = Grammar { count: (1, 2), ..GRAMMAR };
        assert_eq!(
            range.check_count("x", &none).unwrap_err(),
            "x: \"test\" requires a minimum of 1 argument(s)"
        );
        assert_eq!(
            range.check_count("x", &three).unwrap_err(),
            "x: \"test\" requires a maximum of 2 argument(s)"
        );
    }
}
