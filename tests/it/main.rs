//! The tests that enter where the world enters, and the laws of the house.

mod front_door;
mod house;
mod link;
mod model_call;
mod tool_call;
