//! main
