//! Conformance, attacks and benchmarks for any OCI runtime.

mod commands;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use orlop_conformance::bench::{Options, bench, meter};

fn cli() -> Command {
    let path = || value_parser!(PathBuf);
    let count = || value_parser!(u16).range(1..=1000);
    // All that follows, options as well.
    let command = || {
        let rest = Arg::new("command").required(true).num_args(1..);
        rest.trailing_var_arg(true).allow_hyphen_values(true)
    };
    let measure = Command::new("bench")
        .about("Measures runtimes side by side (root, cgroup v2, /bin/busybox)")
        .arg(Arg::new("runtime").long("runtime").required(true).value_parser(path()))
        .arg(
            Arg::new("compare").long("compare").value_name("[NAME=]PATH").action(ArgAction::Append),
        )
        .arg(Arg::new("bundle").long("bundle").value_parser(path()).help("another config"))
        .arg(
            Arg::new("rounds")
                .short('n')
                .long("rounds")
                .value_parser(value_parser!(u32).range(1..))
                .default_value("40"),
        )
        .arg(
            Arg::new("jobs")
                .long("jobs")
                .value_delimiter(',')
                .value_parser(count())
                .default_value("1,8")
                .help("how many containers at a time"),
        )
        .arg(
            Arg::new("host-mounts")
                .long("host-mounts")
                .value_delimiter(',')
                .value_parser(value_parser!(u32).range(..=90_000))
                .default_value("0,1000,10000")
                .help("how many more mounts the host has"),
        )
        .arg(
            Arg::new("cold")
                .long("cold")
                .action(ArgAction::SetTrue)
                .help("also with the kernel's caches dropped before each command"),
        )
        .arg(Arg::new("no-strace").long("no-strace").action(ArgAction::SetTrue))
        .arg(Arg::new("output").long("output").value_parser(path()).help("the file for the tables"))
        .arg(Arg::new("chart").long("chart").value_parser(path()).help("the file for a picture"));
    let meter = Command::new("meter")
        .about("Runs a command and prints its peak memory in KiB on standard error")
        .arg(command().value_parser(value_parser!(OsString)));
    let vm = Command::new("vm")
        .about("Runs one of the other commands in a virtual machine that a checkout of Orlop makes")
        .override_usage("orlop-conformance vm -- run|attack|bench ARGS...")
        .arg(
            command()
                .help("a runtime that is a file here is copied; another is that of Debian trixie"),
        );
    Command::new("orlop-conformance")
        .subcommand_required(true)
        .subcommand(measure)
        .subcommand(meter)
        .subcommand(vm)
        .subcommands(commands::all())
}

fn measure(args: &ArgMatches) -> Result<(), String> {
    let path = |name: &str| args.get_one::<PathBuf>(name).cloned();
    let counts = |name: &str| args.get_many::<u32>(name).into_iter().flatten().map(|n| *n as usize);
    let jobs = args.get_many::<u16>("jobs").into_iter().flatten().map(|n| usize::from(*n));
    let mut runtimes = commands::runtimes(args)?;
    // In tables that have versions elsewhere the program's name is enough.
    for runtime in runtimes.iter_mut().filter(|r| r.label == r.version) {
        runtime.label = runtime.version.split(' ').next().unwrap_or_default().to_owned();
    }
    let mut labels: Vec<&str> = runtimes.iter().map(|r| r.label.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    if labels.len() < runtimes.len() {
        return Err("two runtimes have one name: --compare NAME=PATH gives another".into());
    }
    let report = bench(&Options {
        runtimes,
        rounds: counts("rounds").next().unwrap_or(40),
        jobs: jobs.collect(),
        host_mounts: counts("host-mounts").collect(),
        cold: args.get_flag("cold"),
        bundle: path("bundle"),
        strace: !args.get_flag("no-strace"),
    })?;
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    path("chart").map_or(Ok(()), |path| write(path, &report.chart))?;
    match path("output") {
        Some(path) => write(path, &report.markdown),
        None => {
            print!("{}", report.markdown);
            Ok(())
        }
    }
}

/// Whether this is a command line for a virtual machine.
fn accepts(args: &[String]) -> Result<(), String> {
    let own = std::iter::once("orlop-conformance").chain(args.iter().map(String::as_str));
    let matches = cli().try_get_matches_from(own).map_err(|e| e.to_string())?;
    match matches.subcommand_name() {
        Some("run" | "attack" | "bench") => Ok(()),
        _ => Err("run, attack and bench can be run in a virtual machine".into()),
    }
}

fn main() -> ExitCode {
    let result = match cli().get_matches().subcommand() {
        Some(("bench", args)) => measure(args).map(|()| 0),
        Some(("meter", args)) => {
            let command: Vec<_> = args.get_many("command").into_iter().flatten().cloned().collect();
            meter::run(&command)
        }
        Some(("vm", args)) => {
            let command: Vec<_> = args.get_many("command").into_iter().flatten().cloned().collect();
            vm::run(&command, accepts)
        }
        Some((name, args)) => commands::run(name, args),
        None => Ok(2),
    };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(text) => {
            eprintln!("orlop-conformance: {text}");
            ExitCode::FAILURE
        }
    }
}
