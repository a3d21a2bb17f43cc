"""The features step: histories and profiles in a Feast store, and the point-in-time tables made from them."""
