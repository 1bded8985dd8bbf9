//! Takes a container through its life, and shows what is refused on the way:
//! `cargo run -p orlop-examples --bin lifecycle`.

use std::process::ExitCode;
use std::time::Duration;

use orlop::{Container, Error};
use orlop_examples::{Home, Result};
use rustix::event::{PollFd, PollFlags};

/// A program that is pid 1 gets no signal that it has no handler for, but for this one.
const SIGKILL: i32 = 9;

fn main() -> ExitCode {
    orlop_examples::main(outside, inside)
}

fn outside(_arguments: &[String]) -> Result {
    let home = Home::new()?;
    let bundle = home.bundle(&[])?;
    let builder = || Container::builder("life", bundle.clone()).state_root(home.state());
    let mut container = builder().create()?;
    show("create", &container)?;

    // Any process may go on from here: all that is known stands below the state root.
    let mut other = Container::load(home.state(), "life")?;
    other.start()?;
    show("start", &other)?;

    refused("start again", other.start());
    refused("delete", other.delete(false));
    refused("create of the same id", builder().create().map(drop));

    let pidfd = other.open_pidfd()?.ok_or("it has ended already")?;
    other.kill(SIGKILL)?;
    rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None)?;
    show("kill and poll", &other)?;
    // Only the creator is the parent that learns how it ended.
    refused("wait by another handle", other.wait().map(drop));
    let status = container.wait()?;
    show("wait", &container)?;
    println!("{:24} {status:?}", "");

    refused("kill", container.kill(SIGKILL));
    container.delete(false)?;
    refused("load", Container::load(home.state(), "life").map(drop));
    Ok(())
}

fn show(what: &str, container: &Container) -> Result {
    let state = container.state()?;
    let pid = if state.pid == 0 { "no pid" } else { "a pid" };
    println!("{what:24} {}, with {pid}", state.status.as_str());
    Ok(())
}

fn refused(what: &str, result: std::result::Result<(), Error>) {
    match result {
        Ok(()) => println!("{what:24} ?"),
        Err(error) => println!("{what:24} {:?}: {error}", error.kind()),
    }
}

/// Waits to be killed.
fn inside(_arguments: &[String]) -> Result<u8> {
    std::thread::sleep(Duration::from_secs(60));
    Ok(0)
}
