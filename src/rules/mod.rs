//! Recording and alerting rules. Empty until alerting is built.
