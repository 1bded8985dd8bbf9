//! Whatever goes wrong at whichever system call, of the command or of the init that it spawns: killed with SIGKILL or
//! refused by the kernel, a command fails with a message that says what failed, or it has done all that it was asked
//! for; a container that runs is confined as it must be, and `delete --force` leaves nothing.
//!
//! Each call goes wrong once, and in sweeps that repeat much of another one only every third or fifth call;
//! with `ORLOP_FAULTS=all`, each in every way that is known for it. `ORLOP_FAULT` names one, by a part of what a
//! complaint begins with, such as `command.0 92`.
#![allow(missing_docs)]

use orlop_conformance::faults::{Kind, Shape, commands};

/// Every call; every third or fifth where much is as in another sweep.
const ALL: usize = 1;
const THIRD: usize = 3;
const FIFTH: usize = 5;

/// How the container is made that is deleted, and how that is done.
const FORCED: (&[&str], &[&str]) = (&["run", "--detach"], &["delete", "--force"]);
const UNUSED: (&[&str], &[&str]) = (&["create"], &["delete"]);
/// By a `create` that was killed.
const UNFINISHED: (&[&str], &[&str]) = (&[], &["delete", "--force"]);

#[test]
fn create_survives_every_refused_system_call_or_says_what_failed() {
    commands::create(Kind::Errnos, Shape::Plain, ALL);
}

#[test]
fn create_and_its_init_can_be_killed_before_any_system_call() {
    commands::create(Kind::Kills, Shape::Plain, ALL);
}

#[test]
fn run_survives_every_refused_system_call_or_says_what_failed() {
    commands::run(Kind::Errnos, Shape::Plain, THIRD);
}

#[test]
fn run_and_its_init_can_be_killed_before_any_system_call() {
    commands::run(Kind::Kills, Shape::Plain, THIRD);
}

#[test]
fn start_survives_every_refused_system_call_or_says_what_failed() {
    commands::start(Kind::Errnos, Shape::Plain, ALL);
}

#[test]
fn start_and_the_init_can_be_killed_before_any_system_call() {
    commands::start(Kind::Kills, Shape::Plain, ALL);
}

#[test]
fn exec_survives_every_refused_system_call_or_says_what_failed() {
    commands::exec(Kind::Errnos, Shape::Plain, false, ALL);
}

#[test]
fn exec_and_its_init_can_be_killed_before_any_system_call() {
    commands::exec(Kind::Kills, Shape::Plain, false, ALL);
}

#[test]
fn forced_delete_survives_every_refused_system_call_or_says_what_failed() {
    commands::delete(Kind::Errnos, Shape::Plain, FORCED, ALL);
}

#[test]
fn forced_delete_can_be_killed_before_any_system_call() {
    commands::delete(Kind::Kills, Shape::Plain, FORCED, ALL);
}

#[test]
fn delete_of_a_created_container_survives_every_refused_system_call_or_says_what_failed() {
    commands::delete(Kind::Errnos, Shape::Plain, UNUSED, ALL);
}

#[test]
fn delete_of_a_created_container_can_be_killed_before_any_system_call() {
    commands::delete(Kind::Kills, Shape::Plain, UNUSED, ALL);
}

#[test]
fn create_with_a_user_namespace_survives_every_refused_system_call_or_says_what_failed() {
    commands::create(Kind::Errnos, Shape::Ranges, FIFTH);
}

#[test]
fn create_with_a_user_namespace_can_be_killed_before_any_system_call() {
    commands::create(Kind::Kills, Shape::Ranges, FIFTH);
}

#[test]
fn create_with_a_terminal_survives_every_refused_system_call_or_says_what_failed() {
    commands::create(Kind::Errnos, Shape::Terminal, FIFTH);
}

#[test]
fn create_with_a_terminal_can_be_killed_before_any_system_call() {
    commands::create(Kind::Kills, Shape::Terminal, FIFTH);
}

#[test]
fn run_in_a_joined_pid_namespace_survives_every_refused_system_call_or_says_what_failed() {
    commands::run(Kind::Errnos, Shape::JoinedPid, FIFTH);
}

#[test]
fn run_in_a_joined_pid_namespace_can_be_killed_before_any_system_call() {
    commands::run(Kind::Kills, Shape::JoinedPid, FIFTH);
}

#[test]
fn exec_with_a_terminal_survives_every_refused_system_call_or_says_what_failed() {
    commands::exec(Kind::Errnos, Shape::Plain, true, FIFTH);
}

#[test]
fn exec_with_a_terminal_can_be_killed_before_any_system_call() {
    commands::exec(Kind::Kills, Shape::Plain, true, FIFTH);
}

#[test]
fn exec_in_a_user_namespace_survives_every_refused_system_call_or_says_what_failed() {
    commands::exec(Kind::Errnos, Shape::Ranges, false, FIFTH);
}

#[test]
fn exec_in_a_user_namespace_can_be_killed_before_any_system_call() {
    commands::exec(Kind::Kills, Shape::Ranges, false, FIFTH);
}

#[test]
fn pause_survives_every_refused_system_call_or_says_what_failed() {
    commands::freezing(Kind::Errnos, "pause", "running", "paused");
}

#[test]
fn pause_can_be_killed_before_any_system_call() {
    commands::freezing(Kind::Kills, "pause", "running", "paused");
}

#[test]
fn resume_survives_every_refused_system_call_or_says_what_failed() {
    commands::freezing(Kind::Errnos, "resume", "paused", "running");
}

#[test]
fn resume_can_be_killed_before_any_system_call() {
    commands::freezing(Kind::Kills, "resume", "paused", "running");
}

#[test]
fn update_survives_every_refused_system_call_or_says_what_failed() {
    commands::update(Kind::Errnos);
}

#[test]
fn update_can_be_killed_before_any_system_call() {
    commands::update(Kind::Kills);
}

#[test]
fn kill_survives_every_refused_system_call_or_says_what_failed() {
    commands::kill(Kind::Errnos, Shape::Plain);
}

#[test]
fn kill_can_be_killed_before_any_system_call() {
    commands::kill(Kind::Kills, Shape::Plain);
}

#[test]
fn kill_in_a_joined_pid_namespace_survives_every_refused_system_call_or_says_what_failed() {
    commands::kill(Kind::Errnos, Shape::JoinedPid);
}

#[test]
fn kill_in_a_joined_pid_namespace_can_be_killed_before_any_system_call() {
    commands::kill(Kind::Kills, Shape::JoinedPid);
}

#[test]
fn attached_run_survives_every_refused_system_call_or_says_what_failed() {
    commands::attached_run(Kind::Errnos, FIFTH);
}

#[test]
fn attached_run_and_its_init_can_be_killed_before_any_system_call() {
    commands::attached_run(Kind::Kills, FIFTH);
}

#[test]
fn create_by_an_ordinary_user_survives_every_refused_system_call_or_says_what_failed() {
    commands::create(Kind::Errnos, Shape::Rootless, FIFTH);
}

#[test]
fn create_by_an_ordinary_user_can_be_killed_before_any_system_call() {
    commands::create(Kind::Kills, Shape::Rootless, FIFTH);
}

#[test]
fn create_by_an_ordinary_user_with_subordinate_ids_survives_every_refused_system_call_or_says_what_failed()
 {
    commands::create(Kind::Errnos, Shape::RootlessRanges, FIFTH);
}

#[test]
fn create_by_an_ordinary_user_with_subordinate_ids_can_be_killed_before_any_system_call() {
    commands::create(Kind::Kills, Shape::RootlessRanges, FIFTH);
}

#[test]
fn start_by_an_ordinary_user_survives_every_refused_system_call_or_says_what_failed() {
    commands::start(Kind::Errnos, Shape::Rootless, ALL);
}

#[test]
fn start_by_an_ordinary_user_can_be_killed_before_any_system_call() {
    commands::start(Kind::Kills, Shape::Rootless, ALL);
}

#[test]
fn exec_by_an_ordinary_user_survives_every_refused_system_call_or_says_what_failed() {
    commands::exec(Kind::Errnos, Shape::Rootless, false, FIFTH);
}

#[test]
fn exec_by_an_ordinary_user_can_be_killed_before_any_system_call() {
    commands::exec(Kind::Kills, Shape::Rootless, false, FIFTH);
}

#[test]
fn exec_by_an_ordinary_user_with_subordinate_ids_survives_every_refused_system_call_or_says_what_failed()
 {
    commands::exec(Kind::Errnos, Shape::RootlessRanges, false, FIFTH);
}

#[test]
fn exec_by_an_ordinary_user_with_subordinate_ids_can_be_killed_before_any_system_call() {
    commands::exec(Kind::Kills, Shape::RootlessRanges, false, FIFTH);
}

#[test]
fn forced_delete_by_an_ordinary_user_survives_every_refused_system_call_or_says_what_failed() {
    commands::delete(Kind::Errnos, Shape::Rootless, FORCED, ALL);
}

#[test]
fn forced_delete_by_an_ordinary_user_can_be_killed_before_any_system_call() {
    commands::delete(Kind::Kills, Shape::Rootless, FORCED, ALL);
}

#[test]
fn forced_delete_by_an_ordinary_user_with_subordinate_ids_survives_every_refused_system_call_or_says_what_failed()
 {
    commands::delete(Kind::Errnos, Shape::RootlessRanges, FORCED, ALL);
}

#[test]
fn forced_delete_by_an_ordinary_user_with_subordinate_ids_can_be_killed_before_any_system_call() {
    commands::delete(Kind::Kills, Shape::RootlessRanges, FORCED, ALL);
}

#[test]
fn forced_delete_of_what_a_killed_create_has_left_survives_every_refused_system_call_or_says_what_failed()
 {
    commands::delete(Kind::Errnos, Shape::Stuck, UNFINISHED, ALL);
}

#[test]
fn forced_delete_of_what_a_killed_create_has_left_can_be_killed_before_any_system_call() {
    commands::delete(Kind::Kills, Shape::Stuck, UNFINISHED, ALL);
}

#[test]
fn forced_delete_of_what_an_ordinary_users_killed_create_has_left_survives_every_refused_system_call_or_says_what_failed()
 {
    commands::delete(Kind::Errnos, Shape::RootlessStuck, UNFINISHED, ALL);
}

#[test]
fn forced_delete_of_what_an_ordinary_users_killed_create_has_left_can_be_killed_before_any_system_call()
 {
    commands::delete(Kind::Kills, Shape::RootlessStuck, UNFINISHED, ALL);
}
