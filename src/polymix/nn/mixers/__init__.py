"""Mixer stacks: tokens to tokens."""
