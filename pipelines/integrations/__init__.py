"""Tasks made of the models and data of other libraries, each of which is imported only when it is used."""
