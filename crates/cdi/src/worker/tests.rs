//! Tests of the worker programs.
