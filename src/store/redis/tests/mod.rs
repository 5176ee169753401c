//! The scripts against the ledger, on a real server.
