//! Conformance, attacks and benchmarks for any OCI runtime; `conformance/bench.sh` runs the last with the peers at hand.

mod commands;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use orlop_conformance::bench::{Options, bench, meter};

fn cli() -> Command {
    let path = || value_parser!(PathBuf);
    let measure = Command::new("bench")
        .about("Measures runtimes side by side (root, cgroup v2)")
        .arg(Arg::new("runtime").long("runtime").required(true).value_parser(path()))
        .arg(Arg::new("compare").long("compare").value_name("NAME=PATH").action(ArgAction::Append))
        .arg(Arg::new("floor").long("floor").value_parser(path()).help("the bare kernel work"))
        .arg(Arg::new("bundle").long("bundle").value_parser(path()).help("another config"))
        .arg(Arg::new("rounds").short('n').value_parser(value_parser!(u32)).default_value("40"))
        .arg(Arg::new("no-strace").long("no-strace").action(ArgAction::SetTrue));
    let meter = Command::new("meter")
        .about("Runs a command and prints its peak memory in KiB on standard error")
        .arg(
            Arg::new("command")
                .required(true)
                .num_args(1..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true)
                .value_parser(value_parser!(OsString)),
        );
    Command::new("orlop-conformance")
        .subcommand_required(true)
        .subcommand(measure)
        .subcommand(meter)
        .subcommands(commands::all())
}

fn options(args: &ArgMatches) -> Result<Options, String> {
    let path = |name: &str| args.get_one::<PathBuf>(name).cloned();
    let runtime = path("runtime").ok_or("--runtime is missing")?;
    let name = runtime.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut runtimes = vec![(name, runtime)];
    for pair in args.get_many::<String>("compare").into_iter().flatten() {
        let (name, path) = pair.split_once('=').ok_or("--compare wants NAME=PATH")?;
        runtimes.push((name.to_owned(), PathBuf::from(path)));
    }
    Ok(Options {
        runtimes,
        floor: path("floor"),
        rounds: args.get_one::<u32>("rounds").copied().unwrap_or(40).max(1) as usize,
        bundle: path("bundle"),
        strace: !args.get_flag("no-strace"),
    })
}

fn main() -> ExitCode {
    let result = match cli().get_matches().subcommand() {
        Some(("bench", args)) => options(args).and_then(|o| bench(&o)).map(|()| 0),
        Some(("meter", args)) => {
            let command: Vec<_> = args.get_many("command").into_iter().flatten().cloned().collect();
            meter::run(&command)
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
