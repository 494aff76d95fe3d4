"""Many runs from one file: methods x datasets x seeds x overrides, and one table at the end. Never imports torch."""
