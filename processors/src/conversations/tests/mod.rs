//! conversations' claims: contacts that are divided, and messages of ours. Who wrote, and at which place, is among reply's
//! claims, whose consumer hears them.

mod division;
mod outbound;
