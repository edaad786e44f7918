//! The tests that enter where the world enters, and the laws of the house.

mod house;
