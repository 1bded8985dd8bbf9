//! Prints what creating a container from a bundle would do, without doing it:
//! `cargo run -p orlop-examples --bin explain [BUNDLE]`. Needs neither root nor cgroup v2.

use std::process::ExitCode;

use orlop::{Bundle, Container};
use orlop_examples::{Home, Result};

fn main() -> ExitCode {
    orlop_examples::main(outside, |_| Ok(0))
}

fn outside(arguments: &[String]) -> Result {
    let home; // has to live as long as its bundle
    let bundle = if let Some(directory) = arguments.first() {
        Bundle::load(directory)?
    } else {
        home = Home::new()?;
        home.bundle(&[])?
    };
    print!("{}", Container::builder("explained", bundle).plan()?);
    Ok(())
}
