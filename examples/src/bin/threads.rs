//! Creates containers from several threads at once: `cargo run -p orlop-examples --bin threads`.
//!
//! The library changes nothing of the process that uses it (no directory, no umask, no signal
//! handler), and a container's init is no copy of it: threads need no locks around it.

use std::process::ExitCode;
use std::thread;

use orlop::Container;
use orlop_examples::{Home, Result};

const THREADS: u8 = 8;

fn main() -> ExitCode {
    orlop_examples::main(outside, inside)
}

fn outside(_arguments: &[String]) -> Result {
    let home = Home::new()?;
    let results: Vec<_> = thread::scope(|scope| {
        let home = &home;
        let spawn =
            |number| scope.spawn(move || one(home, number).map_err(|error| error.to_string()));
        let threads: Vec<_> = (1..=THREADS).map(spawn).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    for result in results {
        let line = result.map_err(|_| "a thread panicked")??;
        println!("{line}");
    }
    Ok(())
}

/// One container from its creation to its end.
fn one(home: &Home, number: u8) -> Result<String> {
    let bundle = home.bundle(&[&number.to_string()])?;
    let mut container =
        Container::builder(format!("thread-{number}"), bundle).state_root(home.state()).run()?;
    let status = container.wait()?;
    container.delete(false)?;
    Ok(format!("{} exited with {}", container.id(), status.code()))
}

fn inside(arguments: &[String]) -> Result<u8> {
    Ok(arguments.first().ok_or("no number")?.parse()?)
}
