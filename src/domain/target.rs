//! The one normal form of a request's target, for matching, fingerprint and forwarding.
