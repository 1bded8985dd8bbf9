//! Runs a container and waits for it: `cargo run -p orlop-examples --bin hello`.

use std::fs;
use std::process::ExitCode;

use orlop::{Container, Stdio};
use orlop_examples::{Home, Result};

fn main() -> ExitCode {
    orlop_examples::main(outside, inside)
}

/// What the embedding program does.
fn outside(_arguments: &[String]) -> Result {
    let home = Home::new()?;
    let mut container = Container::builder("hello", home.bundle(&[])?)
        .state_root(home.state())
        .stdio(Stdio::Inherit)
        .run()?;
    println!("outside: container {:?} runs as pid {}", container.id(), container.pid());
    let status = container.wait()?;
    container.delete(false)?;
    println!("outside: it ended with {}", status.code());
    Ok(())
}

/// What the container's program does.
fn inside(_arguments: &[String]) -> Result<u8> {
    let status = fs::read_to_string("/proc/self/status")?;
    let seen = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        value.unwrap_or("?").to_owned()
    };
    let processes = fs::read_dir("/proc")?.flatten();
    let processes = processes.filter(|entry| {
        entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
    });
    let host = rustix::system::uname();
    println!("inside:  hello from pid {}", std::process::id());
    println!("inside:  hostname {}", host.nodename().to_string_lossy());
    println!("inside:  {} process(es) to be seen", processes.count());
    println!("inside:  {} mounts", fs::read_to_string("/proc/self/mountinfo")?.lines().count());
    println!("inside:  effective capabilities {}", seen("CapEff"));
    println!("inside:  no new privileges {}", seen("NoNewPrivs"));
    Ok(0)
}
