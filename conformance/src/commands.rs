//! The commands `run`, `attack` and `soak`, and the process of one case.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use orlop_conformance::suite::report::{Report, Row, Runtime, Verdict, html, junit, line, text};
use orlop_conformance::suite::{Kind, child, host, payload, runner};
use orlop_conformance::{cases, soak};

fn path(name: &'static str) -> Arg {
    Arg::new(name).long(name).value_parser(value_parser!(PathBuf))
}

fn command(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(path("runtime").required_unless_present("list").help("the runtime that is judged"))
        .arg(
            Arg::new("compare")
                .long("compare")
                .value_name("[NAME=]PATH")
                .action(ArgAction::Append)
                .help("another runtime, for a column of its own"),
        )
        .arg(
            Arg::new("filter")
                .long("filter")
                .value_name("TEXT")
                .action(ArgAction::Append)
                .help("only cases with TEXT in \"section: name\""),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_parser(["text", "json", "junit", "html"])
                .default_value("text"),
        )
        .arg(path("output").help("the file for the report, instead of standard output"))
        .arg(Arg::new("jobs").long("jobs").value_parser(value_parser!(usize)))
        .arg(path("payload").help("another program inside the containers"))
        .arg(Arg::new("list").long("list").action(ArgAction::SetTrue).help("names the cases"))
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_parser(value_parser!(u64))
                .default_value("3")
                .help("how long each race is run"),
        )
}

pub(crate) fn all() -> Vec<Command> {
    let case = Command::new("case")
        .hide(true)
        .arg(Arg::new("number").required(true).value_parser(value_parser!(usize)))
        .arg(path("runtime").required(true))
        .arg(path("dir").required(true))
        .arg(path("payload"))
        .arg(Arg::new("seconds").long("seconds").value_parser(value_parser!(u64)));
    let number = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(u32)).default_value(default)
    };
    let soak = Command::new("soak")
        .about("Counts what is left of many containers (root, cgroup v2)")
        .arg(path("runtime").required(true))
        .arg(number("cycles", "10000").help("containers that are created, started and deleted"))
        .arg(number("execs", "1000").help("processes that are executed in a container"))
        .arg(number("jobs", "1").help("how many commands run at a time"));
    vec![
        soak,
        command("run", "Says what of the runtime-spec a runtime keeps (root, cgroup v2)"),
        command("attack", "Says which known attacks a runtime withstands (root, cgroup v2)"),
        case,
    ]
}

pub(crate) fn run(name: &str, args: &ArgMatches) -> Result<i32, String> {
    match name {
        "run" => suite(Kind::Conformance, args),
        "attack" => suite(Kind::Attack, args),
        "soak" => endure(args),
        "case" => one(args).map(|()| 0),
        _ => Ok(2),
    }
}

/// The process of one case.
fn one(args: &ArgMatches) -> Result<(), String> {
    let of = |name: &str| args.get_one::<PathBuf>(name).cloned().ok_or("missing option");
    if let Ok(path) = of("payload") {
        payload::replace(path);
    }
    cases::race_for(args.get_one::<u64>("seconds").copied().unwrap_or(3));
    let number = args.get_one::<usize>("number").copied().unwrap_or(usize::MAX);
    let cases = cases::all();
    let case = cases.get(number).ok_or("no case of that number")?;
    child::run(case, &of("runtime")?, &of("dir")?);
    Ok(())
}

/// The runtimes that a command line names, the judged one first.
pub(crate) fn runtimes(args: &ArgMatches) -> Result<Vec<Runtime>, String> {
    let first = args.get_one::<PathBuf>("runtime").ok_or("--runtime is missing")?;
    let mut all = vec![runner::runtime(None, first)?];
    for text in args.get_many::<String>("compare").into_iter().flatten() {
        let (label, path) = match text.split_once('=') {
            Some((label, path)) => (Some(label.to_owned()), path),
            None => (None, text.as_str()),
        };
        all.push(runner::runtime(label, Path::new(path))?);
    }
    Ok(all)
}

fn suite(kind: Kind, args: &ArgMatches) -> Result<i32, String> {
    // Numbers of cases are those of the whole list, so that a case's process finds its own.
    let cases = cases::all();
    let mut filters: Vec<String> =
        args.get_many::<String>("filter").into_iter().flatten().cloned().collect();
    if args.get_flag("list") {
        for case in cases.iter().filter(|c| c.kind == kind) {
            println!("{} [{}]", case.title(), case.spec);
        }
        return Ok(0);
    }
    host::enter_view()?;
    if filters.is_empty() {
        filters.push(String::new());
    }
    let plan = runner::Plan {
        runtimes: runtimes(args)?,
        filters,
        kind,
        jobs: args.get_one::<usize>("jobs").copied().unwrap_or_else(processors),
        seconds: args.get_one::<u64>("seconds").copied().unwrap_or(3),
        payload: args.get_one::<PathBuf>("payload").cloned(),
    };
    let terminal = std::io::stderr().is_terminal();
    let report = runner::run(&cases, &plan, &|number, of, row, runtime| {
        progress(terminal, (number, of), row, runtime);
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    print(&report, args)?;
    Ok(i32::from(report.counts(0, None).fail > 0))
}

fn endure(args: &ArgMatches) -> Result<i32, String> {
    let number = |name: &str| args.get_one::<u32>(name).copied().unwrap_or(1);
    let runtime = args.get_one::<PathBuf>("runtime").ok_or("--runtime is missing")?;
    let clean = soak::soak(&soak::Options {
        runtime: runner::runtime(None, runtime)?.path,
        cycles: number("cycles"),
        execs: number("execs"),
        jobs: number("jobs"),
    })?;
    Ok(i32::from(!clean))
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// On a terminal a line that changes, and failures; elsewhere failures.
fn progress(terminal: bool, (number, of): (usize, usize), row: &Row, runtime: &Runtime) {
    let mut out = std::io::stderr().lock();
    let failed = row.cells.iter().any(|c| c.verdict == Verdict::Fail);
    let result = if terminal {
        let end = if failed { "\n" } else { "" };
        let short: String = line(row, runtime).chars().take(100).collect();
        write!(out, "\r\x1b[K{number}/{of} {short}{end}")
    } else if failed {
        writeln!(out, "{}", line(row, runtime))
    } else {
        Ok(())
    };
    // Progress that nobody reads is no failure.
    let _: std::io::Result<()> = result.and_then(|()| out.flush());
}

fn print(report: &Report, args: &ArgMatches) -> Result<(), String> {
    let document = match args.get_one::<String>("format").map_or("text", String::as_str) {
        "json" => report.json() + "\n",
        "junit" => junit(report),
        "html" => html(report),
        _ => text(report),
    };
    match args.get_one::<PathBuf>("output") {
        Some(path) => {
            std::fs::write(path, document).map_err(|e| format!("{}: {e}", path.display()))
        }
        None => std::io::stdout().write_all(document.as_bytes()).map_err(|e| e.to_string()),
    }
}
