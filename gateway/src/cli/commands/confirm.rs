//! Questions before what cannot be taken back.

use std::io::BufRead;

use super::client::ClientError;
use super::print_error;
use crate::process::exit::Exit;

/// Asks, and goes on if the answer is yes. What cannot be read is no yes.
pub fn confirm(question: &str) -> Result<(), ClientError> {
    print_error(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if !answer.ends_with('\n') {
        // Nobody has ended the line of the question.
        print_error("\n");
    }
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let message = "nothing was changed; --yes does it without a question".to_owned();
    Err(ClientError::Failed { code: "not_confirmed", message, exit: Exit::Failure })
}
