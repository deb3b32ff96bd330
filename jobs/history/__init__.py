"""A model over dates, and an alarm that stays valid however long one watches."""
