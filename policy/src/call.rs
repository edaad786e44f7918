//! A call that an assistant proposes, as the classifier sees it.

use serde_json::Value;

/// Borrowed, because a call is looked at once and the arguments may be large.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub assistant: &'a str,
    pub tool: &'a str,
    pub arguments: &'a Value,
    /// Absolute path of the assistant's workspace, without a trailing slash.
    pub workspace: &'a str,
    /// Where each path argument really leads, resolved by the caller: the classifier cannot follow a symbolic link.
    /// `None` for an argument means that the caller could not tell.
    pub resolved: &'a [(String, Option<String>)],
}
