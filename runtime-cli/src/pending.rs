//! PENDING: what the library does not offer yet, in one place. Each item says what replaces it.

use orlop::Plan;

use crate::failure::Failure;

/// Replace with `Plan::to_text`.
pub(crate) fn plan_text(plan: &Plan) -> Result<String, Failure> {
    Ok(format!("{plan:#?}\n"))
}

/// Replace with `Plan::to_json`.
pub(crate) fn plan_json(_plan: &Plan) -> Result<String, Failure> {
    Err(Failure::new("explain --json is not built yet"))
}
