//! Cases that failed once.

use super::search::replay;

#[test]
fn two_closers() {
    replay(
        "leaf memory 4096
         layers ws client
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1: write_now 50000, meet, close
            2: meet, close
         far blocking
            1:
            2:",
    );
}
