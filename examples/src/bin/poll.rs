//! Waits for several containers at once, without a thread for each:
//! `cargo run -p orlop-examples --bin poll`.
//!
//! The descriptor that [`Container::pidfd`] gives is readable when the container has ended. Here
//! poll(2) waits for it; in an asynchronous program the runtime does, for tokio with
//! `AsyncFd::with_interest(descriptor, Interest::READABLE)`.

use std::process::ExitCode;
use std::time::Duration;

use orlop::Container;
use orlop_examples::{Home, Result};
use rustix::event::{PollFd, PollFlags};

fn main() -> ExitCode {
    orlop_examples::main(outside, inside)
}

fn outside(_arguments: &[String]) -> Result {
    let home = Home::new()?;
    let mut containers = Vec::new();
    for milliseconds in ["600", "300", "0"] {
        let id = format!("after-{milliseconds}");
        let builder = Container::builder(id, home.bundle(&[milliseconds])?);
        containers.push(builder.state_root(home.state()).run()?);
    }
    while !containers.is_empty() {
        let index = first_ended(&containers)?;
        let mut container = containers.swap_remove(index);
        // It does not block: the container has ended.
        let status = container.wait()?;
        container.delete(false)?;
        println!("{} ended with {}", container.id(), status.code());
    }
    Ok(())
}

/// Waits until one of them has ended; gives its index.
fn first_ended(containers: &[Container]) -> Result<usize> {
    let descriptors =
        containers.iter().map(|container| container.pidfd().ok_or("not created here"));
    let descriptors = descriptors.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut events: Vec<_> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    rustix::event::poll(&mut events, None)?;
    let ended = events.iter().position(|event| !event.revents().is_empty());
    ended.ok_or_else(|| "poll returned without an event".into())
}

fn inside(arguments: &[String]) -> Result<u8> {
    let milliseconds = arguments.first().ok_or("no time")?.parse()?;
    std::thread::sleep(Duration::from_millis(milliseconds));
    Ok(0)
}
