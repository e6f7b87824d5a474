"""Tables as other tools write them: one file a convention, read and written without loss."""
