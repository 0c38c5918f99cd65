"""From a cohort folder to as-of views: nothing recorded after the prediction time gets out of here."""
