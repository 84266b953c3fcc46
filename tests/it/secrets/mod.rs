//! What must be found nowhere: what is planted is looked for in logs at their most talkative, in the data directory, in the
//! session store, in error answers and in metrics, as it is and in the forms in which it would leak.

mod account;
mod codes;
mod search;
mod whole;
