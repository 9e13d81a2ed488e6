//! conversations' claims: contacts that are divided, and outbound messages. The contacts and positions of inbound
//! messages are among reply's claims, because reply's consumer reads them.

mod division;
mod outbound;
